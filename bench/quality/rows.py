"""The rows of the tables."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

Settings = dict[str, Any]
Ranking = Literal["exact_title", "bm25", "biencoder", "retriever", "crossencoder", "linker"]
"""What orders the candidates of a row. ``retriever`` is the bi-encoder with BM25 and names if the preset is hybrid."""


@dataclass(frozen=True)
class Row:
    """One way to link.

    Attributes:
        name: name in the tables.
        ranking: what orders its candidates.
        settings: settings that differ from those of the other rows.
    """

    name: str
    ranking: Ranking
    settings: Settings = field(default_factory=dict)

    @property
    def trainings(self) -> tuple[str, ...]:
        """The training stages that the row needs."""
        both = ("train_biencoder", "train_crossencoder")
        return both if self.ranking in ("crossencoder", "linker") else both[:1]


_NO_TRAINING: Settings = {"train_biencoder.num_train_epochs": 0}

UNTRAINED = (
    Row("exact title match", "exact_title", _NO_TRAINING),
    Row("BM25", "bm25", _NO_TRAINING),
    Row("bi-encoder without training", "biencoder", _NO_TRAINING),
    Row("retriever without training", "retriever", _NO_TRAINING),
)

TRAINED = (
    Row("bi-encoder", "biencoder"),
    Row("retriever", "retriever"),
    Row("cross-encoder", "crossencoder"),
    Row("linker", "linker"),
)


def row_named(text: str) -> Row:
    """Return the row of ``--row``: ``NAME`` or ``NAME with STAGE.SETTING=VALUE,STAGE.SETTING=VALUE``."""
    name, _, changes = text.partition(" with ")
    names = {row.name: row for row in TRAINED}
    if name not in names:
        raise SystemExit(f"--row: expected one of {', '.join(names)}, got {name}")
    return replace(names[name], name=text, settings=settings_of(changes.split(",") if changes else []))


def settings_of(texts: list[str]) -> Settings:
    """Return settings from texts such as ``train_biencoder.learning_rate=5e-5``."""
    return {name: value for name, _, value in (text.partition("=") for text in texts)}
