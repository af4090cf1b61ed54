"""Generates the names in a sample world. Each world has its own syllables, and no two worlds share a name."""

from __future__ import annotations

import random
from collections.abc import Iterator

_ONSETS = "b br c ch d dr f fl g gl gr h j k kl kr l m n p pr qu r s sh sk st t th tr v w y z"
_VOWELS = "a ae ai e ea ei i ia o oa ou u"
_CODAS = "k l ld lm m n nd ng nt r rk rn rth s sk ss st t th x"
_ALL_SYLLABLES = tuple(
    onset + vowel + coda for onset in _ONSETS.split() for vowel in _VOWELS.split() for coda in ("", *_CODAS.split())
)
_SYLLABLES_EACH = 60
_LONGEST_NAME = 8


class Language:
    """Generates words of two syllables, each only once."""

    def __init__(self, syllables: list[str], rng: random.Random, taken: set[str]) -> None:
        words = sorted({first + second for first in syllables for second in syllables if first != second})
        self._words = [word for word in words if len(word) <= _LONGEST_NAME]
        rng.shuffle(self._words)
        self._taken = taken

    def name(self) -> str:
        """A new capitalized word that no language with the same ``taken`` set has used.

        Raises:
            ValueError: all words (thousands) are used.
        """
        while self._words:
            word = self._words.pop()
            if word not in self._taken:
                self._taken.add(word)
                return word.capitalize()
        raise ValueError("expected fewer names to be asked for, got a request for more than the language has words")


def make_languages(rng: random.Random, reserved: set[str]) -> Iterator[Language]:
    """About 130 languages without common syllables, which never generate a ``reserved`` word."""
    syllables = rng.sample(_ALL_SYLLABLES, len(_ALL_SYLLABLES))
    taken = set(reserved)
    for first in range(0, len(syllables) - _SYLLABLES_EACH + 1, _SYLLABLES_EACH):
        yield Language(syllables[first : first + _SYLLABLES_EACH], rng, taken)
