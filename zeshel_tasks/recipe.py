"""Builds a recipe from a preset and overrides::

    build_recipe("recommended", {"bert_model": "/models/bert", "train_biencoder.learning_rate": 2e-5})

A key is ``stage.setting`` for one stage, or a bare setting name for every stage that has it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from zeshel_tasks.config.stage_config import StageConfig
from zeshel_tasks.config.stages import STAGE_CONFIGS, Preset, Recipe
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.presets import PRESETS
from zeshel_tasks.text.safe_text import quoted, safe_text
from zeshel_tasks.text.yaml_text import read_yaml

Config = TypeVar("Config", bound=StageConfig)


def build_recipe(preset: str = "recommended", *overrides: Mapping[str, Any]) -> Recipe:
    """Apply overrides to a preset. Later overrides take precedence.

    Args:
        preset: a name from :data:`~zeshel_tasks.presets.PRESETS`.
        overrides: ``{"stage.setting": value}``, ``{"setting": value}`` or ``{"stage": {"setting": value}}``.
            Strings are converted as pydantic does (``"1e-5"``, ``"False"``); ``"none"`` is none.

    Raises:
        ConfigError: a preset, stage or setting is unknown, or a value is out of range.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset: expected one of {', '.join(PRESETS)}, got {quoted(preset)}")
    values: dict[str, dict[str, Any]] = {stage: {} for stage in STAGE_CONFIGS}
    for layer in (PRESETS[preset], *overrides):
        for stage, settings in settings_by_stage(layer).items():
            values[stage] |= {name: _none_as_none(value) for name, value in settings.items()}
    try:
        return Recipe.model_validate({"preset": preset, **values})
    except ValidationError as error:
        raise ConfigError(*_problems(error)) from error


def build_settings(model: type[Config], values: Mapping[str, Any]) -> Config:
    """Return validated settings that belong to no stage of the recipe.

    Raises:
        ConfigError: a setting is unknown, of the wrong type or out of range; all problems are listed.
    """
    try:
        return model.model_validate({name: _none_as_none(value) for name, value in values.items()})
    except ValidationError as error:
        raise ConfigError(*_problems(error)) from error


def settings_by_stage(layer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return ``{"stage": {"setting": value}}`` for every stage. A bare setting applies to all stages that have it.

    Raises:
        ConfigError: a stage or setting is unknown, or a setting is given twice.
    """
    values: dict[str, dict[str, Any]] = {stage: {} for stage in STAGE_CONFIGS}
    for stage, name, value in _addressed(layer):
        values[stage][name] = value
    return values


def preset_values(stage: str, name: str) -> dict[Preset, Any]:
    """Return the value of a setting in each preset."""
    return {preset: getattr(getattr(recipe, stage), name) for preset, recipe in _preset_recipes().items()}


def read_config_file(path: str, text: str) -> tuple[str | None, dict[str, Any]]:
    """Read preset (if named) and overrides from the text of a YAML file; ``path`` is for messages.

    Raises:
        ConfigError: the text is not YAML or not a mapping of names.
    """
    try:
        content = read_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{path}: expected YAML, got {error}") from error
    if content is None:
        return None, {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path}: expected a mapping of setting names, got {type(content).__name__}")
    preset = content.pop("preset", None)
    if preset is not None and not isinstance(preset, str):
        raise ConfigError(f"{path}: preset: expected one of {', '.join(PRESETS)}, got {quoted(preset)}")
    return preset, content


def _none_as_none(value: Any) -> Any:
    return None if isinstance(value, str) and value.lower() in ("none", "null") else value


@cache
def _preset_recipes() -> dict[Preset, Recipe]:
    return {preset: build_recipe(preset) for preset in PRESETS}


def _addressed(layer: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield (stage, setting, value), general keys first, so that a stage's own key takes precedence within a layer."""
    for key, value in sorted(_flat(layer).items(), key=lambda item: "." in item[0]):
        stage, _, name = key.rpartition(".")
        stages = [stage] if stage else [s for s, model in STAGE_CONFIGS.items() if name in model.model_fields]
        if stage and stage not in STAGE_CONFIGS:
            raise ConfigError(
                f"{safe_text(key)}: expected a stage among {', '.join(STAGE_CONFIGS)}, got {quoted(stage)}"
            )
        if not stages or name not in STAGE_CONFIGS[stages[0]].model_fields:
            raise ConfigError(f"{safe_text(key)}: no such setting{_did_you_mean(name, stages)}")
        for found in stages:
            yield found, name, value


def _flat(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layer with ``{"stage": {"setting": value}}`` as ``{"stage.setting": value}``."""
    flat: dict[str, Any] = {}
    for key, value in layer.items():
        if key in STAGE_CONFIGS and not isinstance(value, Mapping):
            raise ConfigError(f"{key}: expected a mapping of this stage's settings, got {quoted(value)}")
        for name, item in value.items() if key in STAGE_CONFIGS else ((None, value),):
            if name is not None and not isinstance(name, str):
                raise ConfigError(f"{key}: expected names of settings, got {quoted(name)}")
            address = key if name is None else f"{key}.{name}"
            if address in flat:
                raise ConfigError(f"{safe_text(address)}: expected it once, got it twice")
            flat[address] = item
    return flat


def _did_you_mean(name: str, stages: list[str]) -> str:
    known = {field for stage in stages or STAGE_CONFIGS for field in STAGE_CONFIGS[stage].model_fields}
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        got = "" if isinstance(problem["input"], dict | BaseModel) else f"; got {quoted(problem['input'])}"
        yield f"{where}: {message}{got}"
