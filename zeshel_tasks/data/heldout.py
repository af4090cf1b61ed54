"""Held-out mentions: mentions of the training worlds on which a model is measured and never trained.

A mention that is also in train, or whose world has none, would make the figure something else than its name says.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from zeshel_tasks.config.splits import HELDOUT_SPLITS, Split
from zeshel_tasks.data.json_lines import read_records
from zeshel_tasks.data.zeshel import MENTION_FILES, BadLines, Dataset, Mention
from zeshel_tasks.errors import DataError
from zeshel_tasks.metrics import MetricsModel

log = logging.getLogger(__name__)


class HeldoutGolds(MetricsModel):
    """Held-out mentions of a split, and how many of them have a gold entity that also has train mentions."""

    mentions: int
    gold_in_train: int


def held_out(mentions: Iterable[Mention], split: Split, dataset: Dataset, bad: BadLines) -> Iterator[Mention]:
    """Yields the mentions of a held-out split that are held out of train. ``bad`` counts and logs the others."""
    train = {_place(mention): mention.line for mention in dataset.mentions("train", lambda _: None)}
    worlds = {world for world, *_ in train}
    file = dataset.name_in_messages(f"mentions/{MENTION_FILES[split]}")
    for mention in mentions:
        if mention.world not in worlds:
            expected = f"a world of mentions/{MENTION_FILES['train']}"
            problem = "not of a training world"
            bad(DataError(problem, file=file, line=mention.line, field="corpus", expected=expected, got=mention.world))
        elif (line := train.get(_place(mention))) is not None:
            expected = f"a mention that is not in mentions/{MENTION_FILES['train']}"
            got = f"{mention.mention_id}, whose span is on line {line} there"
            problem = "not held out of train"
            bad(DataError(problem, file=file, line=mention.line, field="mention_id", expected=expected, got=got))
        else:
            yield mention


def count_golds(folder: Path, splits: Iterable[Split]) -> dict[Split, HeldoutGolds]:
    """Counts, for each held-out split in BLINK's format, the mentions whose gold has train mentions; logs the result.

    Args:
        folder: with ``{split}.jsonl``, of train as well.
        splits: the splits that exist.
    """
    present = [split for split in splits if split in HELDOUT_SPLITS]
    train = set(_golds(folder, "train")) if present else set()
    found: dict[Split, HeldoutGolds] = {}
    for split in present:
        golds = list(_golds(folder, split))
        found[split] = HeldoutGolds(mentions=len(golds), gold_in_train=sum(gold in train for gold in golds))
        _log(split, found[split])
    return found


def _place(mention: Mention) -> tuple[str, str, int, int]:
    return mention.world, mention.context_document_id, mention.start_index, mention.end_index


def _golds(folder: Path, split: Split) -> Iterator[tuple[str, int]]:
    file = f"{split}.jsonl"
    return ((line.name("world"), line.index("label_id")) for line in read_records(folder / file, file))


def _log(split: Split, golds: HeldoutGolds) -> None:
    expected = golds.mentions if split == "heldout_train_seen" else 0
    level = logging.INFO if golds.gold_in_train == expected else logging.WARNING
    log.log(
        level,
        "%s: %s of %s mentions have a gold with train mentions, expected %s",
        split,
        f"{golds.gold_in_train:,}",
        f"{golds.mentions:,}",
        "all" if expected else "none",
    )
