"""The trigger form of the DAG ``zeshel``, generated from the models of ``config/``.

Params have the names of a config file: ``train_biencoder.learning_rate``, or just ``bert_model`` for a setting
that stages share. The default is null, which means the preset's value. The JSON schema contains the setting's
bounds, so that the form and the REST API reject a wrong value before anything runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from airflow.sdk import Param
from pydantic import ValidationError

from zeshel_tasks.config.stage_config import bounds_of, setting_flag
from zeshel_tasks.config.stages import STAGE_CONFIGS, Preset, Recipe
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.orchestration.settings import RunConfig
from zeshel_tasks.presets import PRESETS
from zeshel_tasks.recipe import build_recipe, preset_values, settings_by_stage
from zeshel_tasks.text.safe_text import quoted

DEFAULT_PRESET: Preset = "recommended"
UNSET = "preset's value"
# A number field of Airflow's form drops the "e-" of 2e-5 (seen in a browser), so fractions are typed as text.
FRACTION = r"^(0|1|0?\.\d+|1\.0+|\d(\.\d+)?[eE]-\d+)$"
POSITIVE = r"^\d+(\.\d+)?([eE][+-]?\d+)?$"
SHARED_SECTION = "Shared by the stages"
_PRESET_DOC = {
    "blink": "the values of BLINK's recipe",
    "recommended": "the settings that we recommend",
    "best": "longer and with harder negatives, for one GPU of 80 GB",
    "smoke": "a test that takes minutes on two CPU cores",
}


def dag_params(defaults: Mapping[str, Any] | None = None, fixed: Collection[str] = ()) -> dict[str, Param]:
    """Return all Params of the DAG but those that the deployment fixes. ``defaults`` override the built-in defaults.

    Raises:
        ConfigError: ``defaults`` contains an unknown name or a value that the form would reject.
    """
    schemas = {name: schema for name, schema in param_schemas().items() if name not in fixed}
    defaults = dict(defaults or {})
    if unknown := sorted(defaults.keys() - schemas.keys()):
        raise ConfigError(f"ZESHEL_DEFAULTS: expected names of the trigger form, got {', '.join(unknown)}")
    params = {}
    for name, schema in schemas.items():
        default = defaults.get(name, DEFAULT_PRESET if name == "preset" else None)
        params[name] = Param(default, schema=schema)
    recipe_overrides(defaults)
    return params


@cache
def param_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each Param by name, in the order of the form."""
    schemas = {"preset": _preset_schema()}
    for name, schema in RunConfig.model_json_schema()["properties"].items():
        schemas[name] = optional_schema(schema, title=name, description=schema["description"])
    shared = {key: value for stage in STAGE_CONFIGS for key, value in _stage_schemas(stage) if "." not in key}
    own = {key: value for stage in STAGE_CONFIGS for key, value in _stage_schemas(stage) if "." in key}
    return schemas | shared | own


def recipe_of(params: Mapping[str, Any]) -> Recipe:
    """Return the settings of all stages of a run.

    Raises:
        ConfigError: a name is unknown, or values are inconsistent.
    """
    return build_recipe(params.get("preset") or DEFAULT_PRESET, _filled_in(params))


def recipe_overrides(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the overrides of a run by stage, without nulls: ``{"train_biencoder": {"learning_rate": 2e-5}}``.

    Raises:
        ConfigError: a name is unknown, or values are inconsistent. The whole recipe is checked, so that a run fails at
            its first stage and not hours later.
    """
    run_config_of(params)
    recipe_of(params)
    given = _filled_in(params)
    if unknown := sorted(given.keys() - param_schemas().keys()):
        raise ConfigError(f"{', '.join(unknown)}: expected names of the trigger form; use stage.setting")
    return settings_by_stage(given)


def run_config_of(params: Mapping[str, Any]) -> RunConfig:
    """Return the part of ``params`` that does not belong to the recipe.

    Raises:
        ConfigError: a value is out of range.
    """
    try:
        return RunConfig(**{name: params.get(name) for name in RunConfig.model_fields})
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{problem['loc'][0]}: {problem['msg']}; got {problem['input']!r}") from error


def refuse_fixed(params: Mapping[str, Any], fixed: Collection[str]) -> None:
    """Refuse values that the deployment fixes. The form does not have them, but a caller of the API can send any.

    Raises:
        ConfigError: a value is given.
    """
    if given := sorted(name for name in fixed if params.get(name) is not None):
        raise ConfigError(
            f"{', '.join(given)}: expected no value in the configuration of a run, because the deployment fixes it "
            f"(stages.fixedParams); got {', '.join(quoted(params[name]) for name in given)}"
        )


def _filled_in(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe's settings that are filled in."""
    others = {"preset", *RunConfig.model_fields}
    return {name: value for name, value in params.items() if value is not None and name not in others}


def _preset_schema() -> dict[str, Any]:
    lines = [f"- **{name}**: {_PRESET_DOC[name]}" for name in PRESETS]
    return {
        "type": "string",
        "enum": list(PRESETS),
        "title": "preset",
        "description_md": "Sets the values of all fields that are left empty below.\n\n" + "\n".join(lines),
    }


def _stage_schemas(stage: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the Param name and the schema of each setting of a stage."""
    model = STAGE_CONFIGS[stage]
    properties = model.model_json_schema()["properties"]
    found = []
    for name, field in model.model_fields.items():
        shared = setting_flag(field, "shared")
        description = _description(stage, name, field.description or "")
        schema = optional_schema(properties[name], title=name, description=description)
        schema["section"] = SHARED_SECTION if shared else _section(stage)
        found.append((name if shared else f"{stage}.{name}", schema))
    return found


def _section(stage: str) -> str:
    """Return the form's heading for a stage: ``train_biencoder`` -> ``Train biencoder``."""
    return stage.replace("_", " ").capitalize()


def _description(stage: str, name: str, text: str) -> str:
    """Return the setting's description followed by its value in each preset."""
    values = {preset: value_text(value) for preset, value in preset_values(stage, name).items()}
    if len(set(values.values())) == 1:
        return f"{text} Default: **{values[DEFAULT_PRESET]}**."
    return f"{text} Presets: " + ", ".join(f"{preset} **{value}**" for preset, value in values.items()) + "."


def value_text(value: Any) -> str:
    """Return a default as the form shows it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None or value == () else str(value)


def optional_schema(schema: Mapping[str, Any], *, title: str, description: str, unset: str = UNSET) -> dict[str, Any]:
    """Return a setting's JSON schema with null as an additional value, which a list of choices shows as ``unset``."""
    core = next((part for part in schema.get("anyOf", []) if part.get("type") != "null"), schema)
    kept = ("type", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    result = {key: core[key] for key in (*kept, "minLength", "maxLength", "items", "maxItems") if key in core}
    if result["type"] == "boolean":
        # Airflow's form renders a plain boolean as a switch, which cannot show "not set". With `string` as the first
        # type it renders a list of choices, and the enum still accepts only true, false and null.
        result |= {"type": ["string", "boolean", "null"], "enum": [True, False]}
    elif result["type"] == "number":
        pattern = FRACTION if result.get("maximum") == 1 else POSITIVE
        # Airflow's form renders a value of several types as a text area for JSON, unless there are examples of it.
        examples = [value_text(schema["default"])] if schema.get("default") is not None else []
        result |= {"type": ["string", "number", "null"], "pattern": pattern, "examples": examples}
    else:
        result["type"] = [result["type"], "null"]
    if "enum" in result:
        result |= {"enum": [*result["enum"], None], "values_display": {"null": unset}}
    if bounds := bounds_of(core):
        description = (
            f"{description} Takes {', '.join(bounds)}."  # for a value out of range, the form only says "Bad Request"
        )
    return result | {"title": title, "description_md": description}
