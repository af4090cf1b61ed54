"""Flags for the settings of stages, and the recipe that they form."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from zeshel_tasks.commands.argument_types import path
from zeshel_tasks.config.stage_config import StageConfig
from zeshel_tasks.config.stages import STAGE_CONFIGS, Preset, Recipe
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.pipeline.stage import Stage
from zeshel_tasks.presets import PRESETS
from zeshel_tasks.recipe import build_recipe, preset_values, read_config_file
from zeshel_tasks.text.yaml_text import MAX_CHARACTERS


def add_stage_settings(parser: argparse.ArgumentParser, stage: Stage, *, prefix: str = "") -> None:
    """Add a flag for each setting of the stage: ``--<prefix><setting>``."""
    group = parser.add_argument_group(prefix.rstrip(".") or "settings", stage.summary)
    for name, field in stage.config_type.model_fields.items():
        text = f"{field.description} ({_in_presets(preset_values(stage.settings, name))})".replace("%", "%%")
        group.add_argument(
            f"--{prefix}{name}", dest=f"setting:{prefix}{name}", metavar="VALUE", help=text, **_value_options(field)
        )


def add_settings_of(
    parser: argparse.ArgumentParser, model: type[StageConfig], names: Collection[str] | None = None
) -> None:
    """Add a flag for each setting of a command that is no stage, or for some; :func:`given_settings` reads them."""
    group = parser.add_argument_group("settings", model.__doc__)
    for name, field in model.model_fields.items():
        if names is not None and name not in names:
            continue
        usual = "" if "by default" in str(field.description) else f" ({str(field.default).lower()})"
        text = f"{field.description}{usual}".replace("%", "%%")
        group.add_argument(f"--{name}", dest=f"setting:{name}", metavar="VALUE", help=text, **_value_options(field))


def add_settings_to_check(parser: argparse.ArgumentParser, stage: Stage) -> None:
    """Add ``--<stage>.<setting>`` for each setting of a later stage. ``--help`` does not list them."""
    for name, field in stage.config_type.model_fields.items():
        flag = f"{stage.settings}.{name}"
        parser.add_argument(f"--{flag}", dest=f"setting:{flag}", help=argparse.SUPPRESS, **_value_options(field))


def add_shared_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag ``--<setting>`` for each setting, for every stage that has it. ``--help`` does not list them again."""
    group = parser.add_argument_group("settings of every stage that has them")
    fields = {name: field for model in STAGE_CONFIGS.values() for name, field in model.model_fields.items()}
    for name, field in sorted(fields.items()):
        group.add_argument(
            f"--{name}", dest=f"setting:{name}", metavar="VALUE", help=argparse.SUPPRESS, **_value_options(field)
        )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add ``--preset`` and ``--config``."""
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        help="values of all settings not set otherwise (default: recommended)",
    )
    parser.add_argument("--config", metavar="FILE.yaml", type=path, help="file with settings; flags override it")


def recipe_of(options: argparse.Namespace, prefix: str = "") -> Recipe:
    """Build the recipe from the preset, the file and the flags; later ones take precedence.

    Args:
        options: the parsed command line.
        prefix: prefix in the recipe of each flag that names no stage, such as ``train_biencoder.``.

    Raises:
        ConfigError: the file is not readable, or a setting is unknown or out of range.
    """
    preset: str | None = None
    from_file: dict[str, Any] = {}
    if options.config is not None:
        preset, from_file = read_config_file(str(options.config), _text_of(options.config))
    flags = {name if "." in name else prefix + name: value for name, value in given_settings(options)}
    return build_recipe(options.preset or preset or "recommended", from_file, flags)


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """Convert ``--top-k=8`` to ``--top_k=8``: settings have BLINK's underscores, but users often type dashes."""
    return [_with_underscores(argument) for argument in arguments]


def _with_underscores(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return name.replace("-", "_").replace("__", "--", 1) + equals + value if name.startswith("--") else argument


def given_settings(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield the settings that flags give, by the names of the flags."""
    for name, value in vars(options).items():
        if name.startswith("setting:") and value is not None:
            yield name.removeprefix("setting:"), value


def _value_options(field: FieldInfo) -> dict[str, Any]:
    """Repeat a flag to give a list. A boolean flag without a value means true, as in BLINK's --data_parallel."""
    if get_origin(field.annotation) is tuple:
        return {"action": "append"}
    return {"nargs": "?", "const": "true"} if field.annotation is bool else {}


def _text_of(config: Path) -> str:
    if config.exists() and not config.is_file():  # reading a pipe without a writer would block
        raise ConfigError(f"--config: expected a YAML file, got {config}, which is not a file")
    try:
        with config.open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config: expected a readable YAML file, got {config}: {error}") from error


def _in_presets(values: dict[Preset, Any]) -> str:
    """``64``, or ``blink 64, recommended 64, smoke 16``."""
    if len(set(values.values())) == 1:
        return "none" if values["recommended"] == () else str(values["recommended"])
    return ", ".join(f"{preset} {value}" for preset, value in values.items())
