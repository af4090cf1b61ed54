"""A split's mentions as token tables, ready for training and retrieval."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import read_array
from zeshel_tasks.data.blink_format import read_blink_mentions
from zeshel_tasks.data.tokens import Tokens, TokenTable, write_table


@dataclass(frozen=True)
class MentionTable:
    """A split's mentions, in file order.

    Attributes:
        contexts: int32 [mentions, max_context_length].
        world: int32 [mentions], index into ``worlds``.
        label: int32 [mentions], position of the gold entity in its world.
        category: of each mention.
        mention_id: of each mention.
        worlds: names, sorted.
    """

    contexts: TokenTable
    world: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32]
    category: list[str]
    mention_id: list[str]
    worlds: list[str]

    @classmethod
    def load(cls, folder: Path) -> MentionTable:
        """Opens what :func:`tokenize_mentions` wrote; the contexts are memory-mapped."""
        names = ("contexts", "world", "label")
        arrays: dict[str, Any] = {name: read_array(folder / f"{name}.npy", mapped=True) for name in names}
        return cls(**arrays, **json.loads((folder / "names.json").read_text()))

    def __len__(self) -> int:
        return len(self.label)

    def rows_of_world(self) -> dict[str, npt.NDArray[np.int64]]:
        """Positions of the mentions of each world."""
        return {world: np.flatnonzero(self.world == index) for index, world in enumerate(self.worlds)}


@dataclass(frozen=True)
class GoldPairs:
    """A split's mentions and their gold entities.

    Attributes:
        mentions: the mentions.
        golds: int32 [different golds, max_cand_length].
        gold_row: int64 [mentions], the row of each mention's gold.
    """

    mentions: MentionTable
    golds: TokenTable
    gold_row: npt.NDArray[np.int64]

    @classmethod
    def load(cls, folder: Path) -> GoldPairs:
        """Opens what :func:`tokenize_pairs` wrote."""
        arrays = {name: read_array(folder / f"{name}.npy", mapped=True) for name in ("golds", "gold_row")}
        return cls(MentionTable.load(folder), **arrays)


def tokenize_mentions(jsonl: Path, tokens: Tokens, max_context_length: int, folder: Path) -> MentionTable:
    """Reads a split in BLINK's format and tokenizes it into memory-mapped tables in the new directory ``folder``."""
    folder.mkdir(parents=True)
    facts = [(m.world, m.label_id, m.category, m.mention_id) for m in read_blink_mentions(jsonl)]
    worlds = sorted({fact[0] for fact in facts})
    position = {world: index for index, world in enumerate(worlds)}
    parts = ((m.context_left, m.mention, m.context_right) for m in read_blink_mentions(jsonl))
    write_table(
        folder / "contexts.npy",
        len(facts),
        max_context_length,
        parts,
        lambda batch: tokens.mentions(batch, max_context_length),
    )
    np.save(folder / "world.npy", np.array([position[fact[0]] for fact in facts], dtype=np.int32))
    np.save(folder / "label.npy", np.array([fact[1] for fact in facts], dtype=np.int32))
    names = {"category": [fact[2] for fact in facts], "mention_id": [fact[3] for fact in facts], "worlds": worlds}
    (folder / "names.json").write_text(json.dumps(names))
    return MentionTable.load(folder)


def tokenize_pairs(
    jsonl: Path, tokens: Tokens, max_context_length: int, max_cand_length: int, folder: Path
) -> GoldPairs:
    """Mentions as :func:`tokenize_mentions`, and their golds, each once, in the order in which they first occur."""
    table = tokenize_mentions(jsonl, tokens, max_context_length, folder)
    pairs = np.stack([table.world, table.label], axis=1)
    _, first_mention, gold = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    row_of_gold = np.argsort(np.argsort(first_mention))
    first = set(first_mention.tolist())
    entities = ((m.label_title, m.label) for n, m in enumerate(read_blink_mentions(jsonl)) if n in first)
    write_table(
        folder / "golds.npy",
        len(first),
        max_cand_length,
        entities,
        lambda batch: tokens.candidates(batch, max_cand_length),
    )
    np.save(folder / "gold_row.npy", row_of_gold[gold.reshape(-1)])
    return GoldPairs.load(folder)
