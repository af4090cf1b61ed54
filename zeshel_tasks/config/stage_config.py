"""The base of the stages' settings: how a setting is defined, checked and described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from zeshel_tasks.location import MAX_CHARACTERS

_BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
PRINTABLE = rf"[^{_CONTROL}]"
"""No control character and no line end, as a regular expression of Python, of the form and of pydantic."""
# Lets the trigger form refuse a bad address early; the parsers in `location.py` check more.
ADDRESS_PATTERN = rf"^[^\s{_CONTROL}]({PRINTABLE}*[^\s{_CONTROL}])?$"
ADDRESS = Field(min_length=1, max_length=MAX_CHARACTERS, pattern=ADDRESS_PATTERN)


def takes(parse: Callable[[str], object]) -> BeforeValidator:
    """A validator that refuses the addresses that ``parse`` refuses, and does not change the others."""

    def checked(address: Any) -> Any:
        if isinstance(address, str):
            parse(address)
        return address

    return BeforeValidator(checked)


def setting(
    default: Any, description: str, *, affects_result: bool = True, shared: bool = False, **constraints: Any
) -> Any:
    """Define one setting.

    Args:
        default: used unless the preset or the user sets another value.
        description: shown by ``--help``, the trigger form and the docs.
        affects_result: ``False`` keeps the setting out of the fingerprint; changing it does not rerun the stage.
        shared: show the setting once in the trigger form, for all stages that have it.
        constraints: pydantic's constraints (``ge``, ``le``, ``gt``, ...).
    """
    return Field(
        default,
        description=description,
        json_schema_extra={"affects_result": affects_result, "shared": shared},
        **constraints,
    )


_SMALLEST = 1e-9
"""A number between this and 0 is a mistake in its exponent. It would act like 0 or, as a divisor, overflow."""


class StageConfig(BaseModel):
    """Base class of the stages' settings. Frozen; rejects unknown names, infinities, NaN and numbers next to 0."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    runs_a_model: ClassVar[bool] = False
    """True if the stage can use a GPU."""

    @field_validator("*", mode="before")
    @classmethod
    def _reject_booleans_for_other_types(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would convert true to 1.
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError("expected a value that is not true or false")
        return value

    @field_validator("*")
    @classmethod
    def _reject_numbers_next_to_zero(cls, value: Any) -> Any:
        if isinstance(value, float) and 0 < abs(value) < _SMALLEST:
            raise ValueError(f"expected 0 or a number of at least {_SMALLEST:g}")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _wrap_single_value_in_list(cls, value: Any, info: ValidationInfo) -> Any:
        takes_many = get_origin(cls.model_fields[str(info.field_name)].annotation) is tuple
        return [value] if takes_many and isinstance(value, str) else value

    def fingerprint_fields(self) -> dict[str, Any]:
        """The settings that affect the stage's result."""
        return {
            name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            if setting_flag(field, "affects_result")
        }

    def as_recorded(self, config: Mapping[str, Any]) -> Self:
        """A copy in which the settings that affect the result are taken from a manifest's ``config``."""
        recorded = {name: config[name] for name in self.fingerprint_fields() if name in config}
        return self.model_validate(self.model_dump() | recorded)


def bounds_of(schema: Mapping[str, Any]) -> list[str]:
    """Readable bounds from the JSON schema of a number: ``["≥ 1", "≤ 10000"]``. Omits bounds of 2**31 and above."""
    return [f"{sign} {schema[key]:g}" for key, sign in _BOUNDS if key in schema and schema[key] < 2**31]


def setting_flag(field: Any, flag: str) -> bool:
    """The value of ``affects_result`` or ``shared`` of a field that :func:`setting` defined."""
    return bool(field.json_schema_extra[flag])
