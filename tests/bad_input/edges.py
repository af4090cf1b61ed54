"""Settings at and just beyond the edges of their ranges, generated from the models of ``config/``.

So a new setting is tested without a change here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from zeshel_tasks.config.stages import STAGE_CONFIGS

# Values of other settings that are needed for a setting at its edge.
COMPANIONS: dict[str, dict[str, str]] = {
    "gradient_accumulation_steps": {"train_batch_size": "10000", "gradient_cache": "true"},
    # A single mention in a batch has hard negatives only.
    "train_batch_size": {
        "gradient_accumulation_steps": "1",
        "hard_negatives": "1",
        "hard_negative_rounds": "100",
    },
    "type_optimization": {"add_linear": "true", "pooling": "cls"},
    "max_context_length": {"max_seq_length": "512", "max_context_length": "511"},
    "max_seq_length": {"max_context_length": "8"},
}
# Settings whose range depends on another setting of the stage.
NARROWER = {("train_crossencoder", "max_context_length", "512"), ("train_crossencoder", "out_dim", "65536")}


def companions(stage: str, name: str) -> dict[str, str]:
    """Returns the values of other settings of the stage that a setting needs at its edge."""
    known = STAGE_CONFIGS[stage].model_fields
    return {other: value for other, value in COMPANIONS.get(name, {}).items() if other in known}


class Edge(NamedTuple):
    """A setting of a stage with a value, as written on the command line."""

    stage: str
    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.stage}.{self.name}={self.value[:20]}"


def core_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns the JSON schema of a setting without null."""
    core: dict[str, Any] = next(kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null")
    return core


def schemas() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for stage, model in STAGE_CONFIGS.items():
        for name, schema in model.model_json_schema()["properties"].items():
            yield stage, name, core_of(schema)


def inside_and_beyond(core: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Returns the values at the edges of a range, and the values just beyond them."""
    whole = core["type"] == "integer"

    def step(value: float, towards: float) -> str:
        return str(value + math.copysign(1, towards)) if whole else repr(math.nextafter(value, towards))

    inside, beyond = [], []
    for bound, outwards in (("minimum", -math.inf), ("maximum", math.inf)):
        if bound in core:
            inside.append(repr(core[bound]))
            beyond.append(step(core[bound], outwards))
    for bound, outwards in (("exclusiveMinimum", -math.inf), ("exclusiveMaximum", math.inf)):
        if bound in core:
            inside.append(step(core[bound], -outwards))
            beyond.append(repr(core[bound]))
    return inside, beyond


NUMBERS = [(stage, name, core) for stage, name, core in schemas() if core["type"] in ("integer", "number")]
INSIDE = [Edge(stage, name, value) for stage, name, core in NUMBERS for value in inside_and_beyond(core)[0]]
BEYOND = [Edge(stage, name, value) for stage, name, core in NUMBERS for value in inside_and_beyond(core)[1]]
