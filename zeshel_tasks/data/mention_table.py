"""A split's mentions as token tables, ready for training and retrieval."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import Rows, new_array, read_array
from zeshel_tasks.data.blink_format import read_blink_mentions
from zeshel_tasks.data.json_lines import count_lines
from zeshel_tasks.data.tokens import Tokens, TokenTable, write_table
from zeshel_tasks.text.json_text import to_json


@dataclass(frozen=True)
class MentionTable:
    """A split's mentions, in file order. Texts (ids, contexts) stay in the split's files.

    Attributes:
        contexts: int32 [mentions, max_context_length].
        world: int32 [mentions], index into ``worlds``.
        label: int32 [mentions], position of the gold entity in its world.
        category: int32 [mentions], index into ``categories``.
        worlds: names, sorted.
        categories: names, sorted.
    """

    contexts: TokenTable
    world: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32]
    category: npt.NDArray[np.int32]
    worlds: list[str]
    categories: list[str]

    @classmethod
    def load(cls, folder: Path) -> MentionTable:
        """Opens the tables that :func:`tokenize_mentions` wrote. They are memory-mapped, except for the names."""
        names = ("contexts", "world", "label", "category")
        arrays: dict[str, Any] = {name: read_array(folder / f"{name}.npy", mapped=True) for name in names}
        return cls(**arrays, **json.loads((folder / "names.json").read_text()))

    def __len__(self) -> int:
        return len(self.label)

    def rows_of_world(self) -> dict[str, Rows]:
        """Returns the positions of the mentions of each world."""
        return {world: np.flatnonzero(self.world == index) for index, world in enumerate(self.worlds)}


@dataclass(frozen=True)
class GoldPairs:
    """A split's mentions and their gold entities.

    Attributes:
        mentions: the mentions.
        golds: int32 [distinct golds, max_cand_length].
        gold_row: int64 [mentions], the row of each mention's gold.
    """

    mentions: MentionTable
    golds: TokenTable
    gold_row: Rows

    @classmethod
    def load(cls, folder: Path) -> GoldPairs:
        """Opens the tables that :func:`tokenize_pairs` wrote."""
        arrays = {name: read_array(folder / f"{name}.npy", mapped=True) for name in ("golds", "gold_row")}
        return cls(MentionTable.load(folder), **arrays)


def tokenize_mentions(jsonl: Path, tokens: Tokens, max_context_length: int, folder: Path) -> MentionTable:
    """Tokenizes a split in BLINK's format into memory-mapped tables in the new directory ``folder``, in one pass.

    Raises:
        DataError: see :func:`~zeshel_tasks.data.blink_format.read_blink_mentions`.
    """
    folder.mkdir(parents=True)
    count = count_lines(jsonl, jsonl.name)
    facts = {name: new_array(folder / f"{name}.npy", np.int32, (count,)) for name in ("world", "label", "category")}
    worlds, categories = _Names(), _Names()

    def parts() -> Iterator[tuple[str, str, str]]:
        for row, m in enumerate(read_blink_mentions(jsonl)):
            values = worlds.number(m.world), m.label_id, categories.number(m.category)
            for array, value in zip(facts.values(), values, strict=True):
                array[row] = value
            yield m.context_left, m.mention, m.context_right

    write_table(
        folder / "contexts.npy",
        count,
        max_context_length,
        parts(),
        lambda batch: tokens.mentions(batch, max_context_length),
    )
    names = {"worlds": worlds.sorted(facts["world"]), "categories": categories.sorted(facts["category"])}
    for array in facts.values():
        array.flush()
    (folder / "names.json").write_text(to_json(names))
    return MentionTable.load(folder)


class _Names:
    """Numbers names in the order in which they first occur, and sorts them at the end."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def sorted(self, numbers: npt.NDArray[np.int32]) -> list[str]:
        """Returns the sorted names, and replaces the numbers by their positions in this list."""
        names = sorted(self._numbers)
        position = {name: index for index, name in enumerate(names)}
        numbers[:] = np.array([position[name] for name in self._numbers], dtype=np.int32)[numbers]
        return names


def tokenize_pairs(
    jsonl: Path, tokens: Tokens, max_context_length: int, max_cand_length: int, folder: Path
) -> GoldPairs:
    """Tokenizes mentions as :func:`tokenize_mentions`, and each gold once, in the order in which they first occur."""
    table = tokenize_mentions(jsonl, tokens, max_context_length, folder)
    pairs = np.stack([table.world, table.label], axis=1)
    _, first_mention, gold = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    row_of_gold = np.argsort(np.argsort(first_mention))
    is_first = np.zeros(len(table), dtype=np.bool_)
    is_first[first_mention] = True
    entities = ((m.label_title, m.label) for n, m in enumerate(read_blink_mentions(jsonl)) if is_first[n])
    write_table(
        folder / "golds.npy",
        len(first_mention),
        max_cand_length,
        entities,
        lambda batch: tokens.candidates(batch, max_cand_length),
    )
    np.save(folder / "gold_row.npy", row_of_gold[gold.reshape(-1)])
    return GoldPairs.load(folder)
