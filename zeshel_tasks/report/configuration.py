"""Compares each stage's settings with its preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zeshel_tasks.config.splits import ALL_SPLITS
from zeshel_tasks.config.stages import STAGE_CONFIGS
from zeshel_tasks.recipe import build_recipe


def compare_with_preset(
    configuration: Mapping[str, Mapping[str, Any]], preset: str
) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns ``{stage: {setting: {"value", "preset_default", "differs"}}}``, settings in order of definition.

    A setting that this version does not know has no default, is not marked as different, and comes last.

    Raises:
        ConfigError: unknown preset.
    """
    recipe = build_recipe(preset).model_dump(mode="json")
    return {
        stage: _compare(settings, recipe.get(_field_of_recipe(stage), {})) for stage, settings in configuration.items()
    }


def _field_of_recipe(stage: str) -> str:
    """``eval_biencoder`` of ``eval-biencoder-test``."""
    name = stage.replace("-", "_")
    stems = (name.removesuffix(f"_{split}") for split in ALL_SPLITS)
    return next((stem for stem in (name, *stems) if stem in STAGE_CONFIGS), name)


def _compare(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    known = [name for name in defaults if name in settings]
    unknown = sorted(set(settings) - set(defaults))
    return {
        name: {
            "value": settings[name],
            "preset_default": defaults.get(name),
            "differs": name in defaults and settings[name] != defaults[name],
        }
        for name in (*known, *unknown)
    }
