"""Entities with random words, as frequent as Zipf's law says. The most frequent ones are English stopwords."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.linking.words import STOPWORDS

_VOCABULARY = 300_000


@cache
def _bounds() -> npt.NDArray[np.float64]:
    """Return the shares of the words, the most frequent first, each with those before it: float64 [words]."""
    share = 1 / np.arange(1, _VOCABULARY + 1)
    return np.cumsum(share / share.sum())


def random_entities(numbers: range, words: int) -> Iterator[Document]:
    """Yield an entity for each number, always the same one.

    Args:
        numbers: of the entities.
        words: of a text, on average. A title has two more.
    """
    bounds, names = _bounds(), sorted(STOPWORDS)
    for number in numbers:
        random = np.random.default_rng(number)
        found = np.searchsorted(bounds, random.random(random.integers(2 * words) + 3)).tolist()
        text = [names[word] if word < len(names) else f"w{word}" for word in found]
        yield Document(f"id{number}", " ".join(text[-2:]), " ".join(text[:-2]))
