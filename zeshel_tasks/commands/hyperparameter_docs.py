"""Writes ``docs/hyperparameters.md``: every setting of every stage, from ``config.py``.

python -m zeshel_tasks.commands.hyperparameter_docs docs/hyperparameters.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zeshel_tasks.config import NO_CONTROL_CHARACTERS, STAGE_CONFIGS, StageConfig, bounds_of, setting_flag
from zeshel_tasks.recipe import preset_values

INTRODUCTION = """# Settings

This page is generated from `zeshel_tasks/config.py` (`make docs`); a test keeps it up to date.

A preset is always in force; it is `recommended` unless you name another one. The column *presets* shows where a preset
differs from the default. Flags win over a `--config` file, which wins over the preset.

`zeshel <stage>` takes the settings of its own table: `--learning_rate 2e-5`. `zeshel pipeline` takes all of them:
`--train_biencoder.learning_rate 2e-5` for one stage, `--precision fp32` for every stage that has the setting. A file
has the same names:

```yaml
preset: recommended
precision: fp32
train_biencoder:
  learning_rate: 2.0e-5
```

*Reuse* says what happens to finished work when the setting changes:

- **redo**: the stage runs again, and so do the stages after it.
- **keep**: the artifact is reused; the setting does not change what is computed.
- **by content**: the setting is an address. What lies there decides, not where it lies: the same bytes at another
  address are reused. A model on the hub and a file on Google Drive are told apart by their names alone.
"""

_ADDRESSES = {"source", "more_sources", "bert_model", "biencoder_weights", "crossencoder_weights"}
_TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false"}


def hyperparameters_page() -> str:
    """The whole page, as Markdown."""
    sections = ("\n".join(_section(stage, model)) for stage, model in STAGE_CONFIGS.items())
    return "\n".join([INTRODUCTION, *sections])


def _section(stage: str, model: type[StageConfig]) -> Iterator[str]:
    yield f"## {stage.replace('_', '-')}\n"
    yield (model.__doc__ or "").splitlines()[0] + "\n"
    yield "| setting | takes | default | presets | reuse | |"
    yield "|---|---|---|---|---|---|"
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        values = preset_values(stage, name)
        different = (f"{preset} {_value(value)}" for preset, value in values.items() if value != field.default)
        reuse = "by content" if name in _ADDRESSES else "redo" if setting_flag(field, "affects_result") else "keep"
        cells = (f"`{name}`", _takes(properties[name]), _value(field.default), ", ".join(different), reuse)
        yield f"| {' | '.join(cells)} | {_escaped(field.description or '')} |"
    yield ""


def _takes(schema: dict[str, Any]) -> str:
    """What a setting accepts, from its JSON schema: type, choices, bounds, and whether it may be none."""
    kinds = schema.get("anyOf", [schema])
    core = next(kind for kind in kinds if kind.get("type") != "null")
    if core["type"] == "array":
        text = f"list of {_takes(core['items'])}"
    elif "enum" in core:
        text = ", ".join(f"`{choice}`" for choice in core["enum"])
    elif core.get("pattern") == NO_CONTROL_CHARACTERS:
        text = _TYPES[core["type"]]  # every name and path is one
    elif "pattern" in core:
        text = f"text like `{_escaped(core['pattern'])}`"
    else:
        text = ", ".join([_TYPES[core["type"]], *bounds_of(core)])
    return f"{text}, or none" if len(kinds) > 1 else text


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "none" if value is None or value == () else f"`{value}`"


def _escaped(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(hyperparameters_page(), encoding="utf-8")
