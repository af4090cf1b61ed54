"""The rows of both tables: settings that override the ``blink`` preset.

Each of the first rows adds established improvements to the row before. Each row below the base adds one ingredient to
the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Settings = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One way to train.

    Attributes:
        name: name in the table.
        settings: settings of the stage that override those of ``blink``.
        on_test: True to measure it on the test worlds, too. Choices are made by the valid worlds.
    """

    name: str
    settings: Settings
    on_test: bool = False


_PACE: Settings = {"learning_rate": 1e-4, "train_batch_size": 32}
"""Also for BLINK's method, whose 1e-05 and 128 are meant for five epochs of ZESHEL and change little in minutes."""

_TRAINED: Settings = _PACE | {
    "type_optimization": "all",
    "shuffle": True,
    "mask_duplicate_golds": True,
    "attention_dropout": 0.0,
}
_BASE: Settings = _TRAINED | {"pooling": "mean", "similarity": "cosine"}

BIENCODER = (
    Row("blink", {}, on_test=True),
    Row("blink at this pace", _PACE, on_test=True),
    Row("+ all parameters, shuffled, golds masked, no attention dropout", _TRAINED),
    Row("+ mean over tokens, cosine with a learned temperature (base)", _BASE, on_test=True),
    Row("base, but [CLS]", _BASE | {"pooling": "cls"}),
    Row("base + one-world batches", _BASE | {"one_world_batches": True}, on_test=True),
    Row("base + 2 hard negatives", _BASE | {"hard_negatives": 2}),
    Row("base + one-world batches + 1 hard negative", _BASE | {"one_world_batches": True, "hard_negatives": 1}),
)

RETRIEVER = BIENCODER[5]
"""The row of the bi-encoder whose candidates the cross-encoders are trained and measured on."""

_CROSS_TRAINED: Settings = {"type_optimization": "all", "attention_dropout": 0.0, "learning_rate": 1e-4}

_FEW_CANDIDATES: Settings = _CROSS_TRAINED | {"train_candidates": 4}

CROSSENCODER = (
    Row("blink", {}, on_test=True),
    Row("all parameters, no attention dropout, learning rate 1e-04", _CROSS_TRAINED),
    Row("the same with 4 candidates a step", _FEW_CANDIDATES),
    Row("the same from the bi-encoder", _FEW_CANDIDATES | {"from_biencoder": True}, on_test=True),
)
