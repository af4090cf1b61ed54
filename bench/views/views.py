"""Views of a description: parts of it, each with the title, each encoded on its own.

Source: Ma et al., 2021, "MuVER" (arXiv:2109.05716): an entity's score is that of its best view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import read_array
from zeshel_tasks.data.tokens import Tokens, TokenTable

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

_WORDS_A_TOKEN = 0.7  # so that a view and the title are mostly whole in its tokens
_SHORTEST = 0.25  # of a view: what is left of a description below this makes none
_BATCH = 1024


@dataclass(frozen=True)
class Views:
    """The views of some entities.

    Attributes:
        tokens: int32 [views, length], an entity's next to each other.
        first: int64 [entities + 1], where each entity's begin and the last one's end.
    """

    tokens: TokenTable
    first: Rows

    @classmethod
    def of(cls, entities: Sequence[tuple[str, str]], most: int, length: int, tokens: Tokens) -> Views:
        """At most ``most`` views of ``length`` tokens of each entity, given as title and text."""
        by_entity = [list(_parts(title, text, most, length)) for title, text in entities]
        flat = [view for views in by_entity for view in views]
        batches = (tokens.candidates(flat[start : start + _BATCH], length) for start in range(0, len(flat), _BATCH))
        first = np.cumsum([0, *map(len, by_entity)], dtype=np.int64)
        return cls(np.concatenate(list(batches)), first)

    def save(self, folder: Path) -> None:
        """Writes them into the new directory ``folder``."""
        folder.mkdir()
        np.save(folder / "tokens.npy", self.tokens)
        np.save(folder / "first.npy", self.first)

    @classmethod
    def load(cls, folder: Path) -> Views:
        """What :meth:`save` wrote."""
        return cls(read_array(folder / "tokens.npy"), read_array(folder / "first.npy"))

    def rows_of(self, entities: Rows) -> tuple[Rows, Rows]:
        """Rows of the views of some entities, one after the other, and the place of each entity's first among them."""
        rows = [np.arange(self.first[entity], self.first[entity + 1]) for entity in entities]
        return np.concatenate(rows), np.cumsum([0, *map(len, rows[:-1])], dtype=np.int64)


def best_of_views(scores: Scores, first: Rows) -> Scores:
    """Each entity's best score: float32 [mentions, entities].

    Args:
        scores: of views, float32 [mentions, views].
        first: int64 [entities], place of each entity's first view.
    """
    best: Scores = np.maximum.reduceat(scores, first, axis=1)
    return best


def _parts(title: str, text: str, most: int, length: int) -> Iterator[tuple[str, str]]:
    words, size = text.split(), int(length * _WORDS_A_TOKEN)
    for number in range(most):
        part = words[number * size : (number + 1) * size]
        if number == 0 or len(part) > size * _SHORTEST:
            yield title, text if most == 1 else " ".join(part)
