"""The data of all rows: the same mentions of worlds that no row is trained on, and nested sets of train mentions."""

from __future__ import annotations

import json
import random
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zeshel_tasks.config.splits import Split
from zeshel_tasks.data.zeshel import MENTION_FILES

_HELD_OUT_WORLDS = 2
_LARGE_WORLD = 2000  # entities

_Lines = dict[str, list[str]]


@dataclass(frozen=True)
class Sample:
    """A sample of a data set.

    Attributes:
        data: folder of a data set in ZESHEL's format.
        held_out: train worlds that move to valid.
        evaluated: mentions of each test world; a world with fewer has all of its mentions.
        evaluated_valid: mentions of each valid world.
        without: train worlds to leave out.
    """

    data: Path
    held_out: tuple[str, ...]
    evaluated: int
    evaluated_valid: int
    without: tuple[str, ...] = ()

    def write(self, folder: Path, train_mentions: int) -> Path:
        """Write a data set with ``train_mentions`` train mentions into the emptied ``folder``, and return the folder.

        The train mentions of a smaller number are among those of a larger number.
        """
        train, valid, test = self._splits()
        everything = [line for lines in train.values() for line in lines]
        if train_mentions > len(everything):
            raise SystemExit(f"--mentions: expected at most {len(everything):,}, got {train_mentions:,}")
        random.Random("train").shuffle(everything)
        return self._write(folder, everything[:train_mentions], *self._evaluated(valid, test))

    def write_small(self, folder: Path, train_mentions: int) -> Path:
        """Write a data set of three small worlds, to time a training on ``train_mentions`` mentions."""
        train, valid, test = (self._smallest(lines) for lines in self._splits())
        return self._write(folder, train[:train_mentions], valid[:10], test[:10])

    def _splits(self) -> tuple[_Lines, _Lines, _Lines]:
        train, valid, test = (_lines(self.data, split) for split in ("train", "valid", "test"))
        valid |= {world: train.pop(world) for world in self.held_out}
        return {world: lines for world, lines in train.items() if world not in self.without}, valid, test

    def _evaluated(self, valid: _Lines, test: _Lines) -> tuple[list[str], list[str]]:
        return _drawn(valid, "valid", self.evaluated_valid), _drawn(test, "test", self.evaluated)

    def _smallest(self, by_world: _Lines) -> list[str]:
        """Return the lines of the world with the fewest entities, of those with the most mentions up to 200."""
        most = min(200, max(map(len, by_world.values())))
        enough = (world for world, lines in by_world.items() if len(lines) >= most)
        return by_world[min(enough, key=lambda world: world_size(self.data, world))]

    def _write(self, folder: Path, train: Iterable[str], valid: Iterable[str], test: Iterable[str]) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.data / "documents", folder / "documents")
        (folder / "mentions").mkdir()
        drawn: dict[Split, Iterable[str]] = {"train": train, "valid": valid, "test": test}
        for split, lines in drawn.items():
            (folder / "mentions" / MENTION_FILES[split]).write_text("".join(lines), encoding="utf-8")
        return folder


def hard_worlds(data: Path, evaluated: int) -> tuple[str, ...]:
    """Return the train worlds to hold out: those of at least 2,000 entities and ``evaluated`` mentions, at most two.

    In small worlds, and in worlds whose mentions are titles, rows hardly differ. The two with the fewest mentions cost
    the trainings the least.
    """
    lines = _lines(data, "train")
    large = [world for world in lines if len(lines[world]) >= evaluated and world_size(data, world) >= _LARGE_WORLD]
    return tuple(sorted(large, key=lambda world: len(lines[world]))[:_HELD_OUT_WORLDS])


def world_size(data: Path, world: str) -> int:
    """Return the number of entities of a world."""
    with (data / "documents" / f"{world}.json").open("rb") as lines:
        return sum(1 for _ in lines)


def _drawn(by_world: _Lines, split: Split, most: int) -> list[str]:
    draw = random.Random(f"{split} 0")
    return [line for lines in by_world.values() for line in draw.sample(lines, min(most, len(lines)))]


def _lines(data: Path, split: Split) -> _Lines:
    by_world: _Lines = defaultdict(list)
    with (data / "mentions" / MENTION_FILES[split]).open(encoding="utf-8") as lines:
        for line in lines:
            by_world[json.loads(line)["corpus"]].append(line.rstrip("\n") + "\n")
    return dict(by_world)
