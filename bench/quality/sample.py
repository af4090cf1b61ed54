"""The data of all rows: one data set, from which each training gets as many mentions as it has time for."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from zeshel_tasks.config import ConvertConfig, Split
from zeshel_tasks.data.arrays import read_array
from zeshel_tasks.data.blink_format import convert_split
from zeshel_tasks.data.candidate_sets import tokenize_entities
from zeshel_tasks.data.mention_table import GoldPairs, tokenize_pairs
from zeshel_tasks.data.tokens import Tokens, TokenTable
from zeshel_tasks.data.zeshel import MENTION_FILES, Dataset


@dataclass(frozen=True)
class Sample:
    """A sample of a data set.

    Attributes:
        data: folder of a data set in ZESHEL's format.
        tokens: tokenizer of the base model.
        length: tokens of a mention in its context, and of a candidate.
        most_entities: larger train worlds are left out, because encoding them would take most of a row's time.
        scratch: folder for tables.
    """

    data: Path
    tokens: Tokens
    length: int
    most_entities: int
    scratch: Path

    def pairs(self, split: Split, most: int, seed: int = 0) -> GoldPairs:
        """Return mentions with their golds: ``most`` of train in total, or ``most`` of each world of another split."""
        folder = self.folder(split, most, seed)
        if not folder.exists():
            drawn = self.scratch / f"{folder.name}-data"
            (drawn / "mentions").mkdir(parents=True)
            (drawn / "documents").symlink_to((self.data / "documents").resolve())
            lines = self._draw(split, most, seed)
            (drawn / "mentions" / MENTION_FILES[split]).write_text("".join(lines), encoding="utf-8")
            convert_split(Dataset(drawn), split, drawn, ConvertConfig())
            tokenize_pairs(drawn / f"{split}.jsonl", self.tokens, self.length, self.length, folder)
        return GoldPairs.load(folder)

    def folder(self, split: Split, most: int, seed: int = 0) -> Path:
        """Return the folder in which :meth:`pairs` keeps its tables."""
        return self.scratch / f"{split}-{most}-{seed}"

    def entities(self, world: str) -> TokenTable:
        """Return a world's entities: int32 [entities, length]."""
        path = self.scratch / "entities" / f"{world}.npy"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            documents = list(Dataset(self.data).documents(world))
            tokenize_entities(documents, len(documents), self.tokens, self.length, "title_and_text", path)
        return read_array(path, mapped=True)

    def available(self) -> int:
        """Return the number of train mentions."""
        return sum(map(len, self._lines("train").values()))

    def _draw(self, split: Split, most: int, seed: int) -> list[str]:
        draw, by_world = random.Random(f"{split} {seed}"), self._lines(split)
        if split == "train":
            everything = [line for lines in by_world.values() for line in lines]
            return draw.sample(everything, min(most, len(everything)))
        return [line for lines in by_world.values() for line in draw.sample(lines, min(most, len(lines)))]

    def _lines(self, split: Split) -> dict[str, list[str]]:
        by_world: dict[str, list[str]] = defaultdict(list)
        with (self.data / "mentions" / MENTION_FILES[split]).open(encoding="utf-8") as lines:
            for line in lines:
                by_world[json.loads(line)["corpus"]].append(line.rstrip("\n") + "\n")
        if split != "train":
            return by_world
        return {world: lines for world, lines in by_world.items() if self._size(world) <= self.most_entities}

    def _size(self, world: str) -> int:
        with (self.data / "documents" / f"{world}.json").open("rb") as lines:
            return sum(1 for _ in lines)
