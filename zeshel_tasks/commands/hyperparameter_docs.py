"""Generate ``docs/hyperparameters.md``, the table of all settings, from the models of ``config/``.

python -m zeshel_tasks.commands.hyperparameter_docs docs/hyperparameters.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zeshel_tasks.config.stage_config import ADDRESS_PATTERN, StageConfig, bounds_of, setting_flag
from zeshel_tasks.config.stages import STAGE_CONFIGS
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.recipe import preset_values

INTRODUCTION = """# Settings

`make docs` generates this page from `zeshel_tasks/config/`; a test fails if it is out of date.

Every run uses a preset, `recommended` unless you choose another. The *presets* column shows where a preset differs from
the default. Flags override a `--config` file, which overrides the preset.

`zeshel <stage>` takes the settings in its table: `--learning_rate 2e-5`. `zeshel pipeline` takes all of them:
`--train_biencoder.learning_rate 2e-5` for one stage, `--precision fp32` for every stage that has the setting. A file
uses the same names:

```yaml
preset: recommended
precision: fp32
train_biencoder:
  learning_rate: 2.0e-5
```

The *reuse* column says what happens to finished work when the setting changes:

- **redo**: the stage and the stages after it run again.
- **keep**: the artifact is reused, because the setting does not affect the result.
- **by content**: the setting is an [address](addresses.md), and its content decides: the artifact is reused if another
  address holds the same bytes. BERT is identified by the files that are read, a file on Google Drive by its name.
"""

_ADDRESSES = {"source", "more_sources", "bert_model", "biencoder_weights", "crossencoder_weights"}
_TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false"}


def hyperparameters_page() -> str:
    """The whole page, as Markdown."""
    sections = ("\n".join(_section(stage, model)) for stage, model in STAGE_CONFIGS.items())
    return "\n".join([INTRODUCTION, *sections])


def _section(stage: str, model: type[StageConfig]) -> Iterator[str]:
    yield f"## {stage.replace('_', '-')}\n"
    yield STAGES[stage.replace("_", "-")].summary + "\n"
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
    """Readable type of a setting from its JSON schema: type, choices, bounds, and "or none" if it is optional."""
    kinds = schema.get("anyOf", [schema])
    core = next(kind for kind in kinds if kind.get("type") != "null")
    if core["type"] == "array":
        text = f"list of {_takes(core['items'])}"
    elif "enum" in core:
        text = ", ".join(f"`{choice}`" for choice in core["enum"])
    elif core.get("pattern") == ADDRESS_PATTERN:
        text = "[address](addresses.md)"
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
    """Escape text for a table cell."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(hyperparameters_page(), encoding="utf-8")
