"""Writes a data set in BLINK's format, and reads it.

``{split}.jsonl`` is byte for byte what BLINK's ``create_BLINK_zeshel_data.py`` writes. Beside it, line for line,
``{split}.mentions.jsonl`` keeps what this format drops: ``mention_id``, ``category``, both document ids, and the case
of mention and context.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import Field

from zeshel_tasks.config.data import ConvertConfig
from zeshel_tasks.config.splits import HELDOUT_SPLITS, Split
from zeshel_tasks.data.heldout import HeldoutGolds, held_out
from zeshel_tasks.data.json_lines import BadLine, read_records
from zeshel_tasks.data.world import NAMES, World
from zeshel_tasks.data.zeshel import MENTION_FILES, BadLines, Dataset, Mention
from zeshel_tasks.errors import DataError
from zeshel_tasks.metrics import MetricsModel
from zeshel_tasks.text.json_text import to_json

CASED_FIELDS = ("context_left", "mention", "context_right")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorldSummary:
    """Mentions of one world in one split: numbers written, in the data set, and broken."""

    mentions: int
    mentions_in_data_set: int
    skipped: int


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """The mentions of a split that were written or skipped.

    Attributes:
        mentions: number of written mentions.
        skipped: number of broken mentions, including those whose world could not be read.
        worlds: numbers by world, sorted.
        capped: True if a world had more good mentions than ``max_mentions_per_world``.
    """

    mentions: int
    skipped: int
    worlds: dict[str, WorldSummary]
    capped: bool


class ConvertMetrics(MetricsModel):
    """Metrics of ``convert``, by split; see :class:`SplitSummary`. ``heldout`` has only held-out splits."""

    mentions: dict[Split, int]
    skipped: dict[Split, int]
    worlds: dict[Split, dict[str, WorldSummary]]
    capped: bool
    heldout: dict[Split, HeldoutGolds] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlinkMention:
    """A mention in its context with its gold entity, from both files of a split.

    Attributes:
        context_left: tokens before the mention, separated by single spaces, case kept.
        mention: tokens of the mention, as in its document.
        context_right: tokens after the mention.
        label: text of the gold entity, case kept.
        label_id: position of the gold entity in its world's documents, from 0.
        label_title: title of the gold entity, case kept.
    """

    context_left: str
    mention: str
    context_right: str
    label: str
    label_id: int
    label_title: str
    world: str
    mention_id: str
    category: str
    context_document_id: str
    label_document_id: str


def convert_split(dataset: Dataset, split: Split, out_dir: Path, config: ConvertConfig) -> SplitSummary:
    """Writes ``{split}.jsonl`` and ``{split}.mentions.jsonl`` into ``out_dir``.

    Memory holds one world's documents and the split's mentions (a few hundred bytes each, without context). The
    converted lines repeat the gold entity's whole text, so they are kept on disk until all worlds are done.

    Raises:
        DataError: documents are broken, the split has no mentions, a mention is broken (``on_bad_mention="fail"``), or
            more than ``max_bad_share`` of the mentions are broken (``"skip"``) or not held out of train (either).
    """
    bad = BadLines("left out")
    on_bad = bad if config.on_bad_mention == "skip" else None
    found = dataset.mentions(split, on_bad)
    by_world = _group_by_world(held_out(found, split, dataset, bad) if split in HELDOUT_SPLITS else found)
    lines = sum(len(mentions) for mentions in by_world.values()) + bad.count
    out_dir.mkdir(parents=True, exist_ok=True)
    worlds: dict[str, WorldSummary] = {}
    kept: list[_Spooled] = []
    with tempfile.TemporaryFile(dir=out_dir) as spool:
        for name, mentions in sorted(by_world.items()):
            chosen, worlds[name] = _convert_world(
                World(name, dataset.documents(name), dataset.contexts(name)), mentions, split, config, on_bad, spool
            )
            kept += chosen
        _check_enough_is_left(kept, bad, lines, split, config)
        _write_in_file_order(kept, spool, split, out_dir)
    capped = any(world.mentions + world.skipped < world.mentions_in_data_set for world in worlds.values())
    return SplitSummary(len(kept), bad.count, worlds, capped)


def convert_metrics(summaries: Mapping[Split, SplitSummary], heldout: Mapping[Split, HeldoutGolds]) -> ConvertMetrics:
    """Returns the metrics of the ``convert`` stage."""
    return ConvertMetrics(
        mentions={split: summary.mentions for split, summary in summaries.items()},
        skipped={split: summary.skipped for split, summary in summaries.items()},
        worlds={split: summary.worlds for split, summary in summaries.items()},
        capped=any(summary.capped for summary in summaries.values()),
        heldout=dict(heldout),
    )


def read_blink_mentions(path: Path) -> Iterator[BlinkMention]:
    """Yields the mentions of ``{split}.jsonl`` with what ``{split}.mentions.jsonl`` beside it has of them.

    Raises:
        DataError: a file is missing or broken, or the two differ in length.
    """
    side = path.with_name(f"{path.stem}.mentions.jsonl")
    blink, more = read_records(path, path.name), read_records(side, side.name)
    for record in blink:
        extra = next(more, None)
        if extra is None:
            raise DataError("too few lines", file=side.name, expected=f"as many as {path.name} has")
        yield BlinkMention(
            label=record.text("label"),
            label_id=record.index("label_id"),
            label_title=record.text("label_title"),
            world=record.name("world"),
            # Version 0.1 kept no case beside BLINK's lower-case text.
            **{field: (extra if field in extra.values else record).text(field) for field in CASED_FIELDS},
            **{field: extra.name(field) for field in NAMES},
        )
    if (extra := next(more, None)) is not None:
        raise extra.error("too many lines", expected=f"as many as {path.name} has")


@dataclass(frozen=True, slots=True)
class _Spooled:
    """Where the lines of a mention are: the one in BLINK's format, then the one beside it."""

    mention: Mention
    offset: int
    blink_size: int
    side_size: int


def _group_by_world(mentions: Iterable[Mention]) -> dict[str, list[Mention]]:
    by_world: dict[str, list[Mention]] = defaultdict(list)
    for mention in mentions:
        by_world[mention.world].append(mention)
    return by_world


def _convert_world(
    world: World,
    mentions: list[Mention],
    split: Split,
    config: ConvertConfig,
    on_bad: BadLine | None,
    spool: IO[bytes],
) -> tuple[list[_Spooled], WorldSummary]:
    good = [mention for mention in mentions if _is_good(world, mention, split, on_bad)]
    chosen = [
        _spool(mention, *world.convert(mention, config.context_tokens), spool)
        for mention in _subset(good, split, config)
    ]
    return chosen, WorldSummary(len(chosen), len(mentions), len(mentions) - len(good))


def _is_good(world: World, mention: Mention, split: Split, on_bad: BadLine | None) -> bool:
    try:
        world.check(mention, f"mentions/{MENTION_FILES[split]}")
    except DataError as error:
        if on_bad is None:
            raise
        on_bad(error)
        return False
    return True


def _subset(mentions: list[Mention], split: Split, config: ConvertConfig) -> list[Mention]:
    """Returns a uniform subset in file order: the smallest seeded hashes, which are the same on all machines."""
    limit = config.max_mentions_per_world
    if limit is None or len(mentions) <= limit:
        return mentions

    def rank(mention: Mention) -> bytes:
        return hashlib.sha256(f"{config.subset_seed}/{split}/{mention.world}/{mention.mention_id}".encode()).digest()

    log.info(
        "kept %s of %s mentions of %s (max_mentions_per_world)", f"{limit:,}", f"{len(mentions):,}", mentions[0].world
    )
    return sorted(heapq.nsmallest(limit, mentions, key=rank), key=lambda mention: mention.line)


def _spool(mention: Mention, converted: dict[str, Any], beside: dict[str, Any], spool: IO[bytes]) -> _Spooled:
    offset = spool.tell()
    return _Spooled(mention, offset, spool.write(_json_line(converted)), spool.write(_json_line(beside)))


def _write_in_file_order(kept: list[_Spooled], spool: IO[bytes], split: Split, out_dir: Path) -> None:
    with (out_dir / f"{split}.jsonl").open("wb") as blink, (out_dir / f"{split}.mentions.jsonl").open("wb") as side:
        for item in sorted(kept, key=lambda item: item.mention.line):
            spool.seek(item.offset)
            blink.write(spool.read(item.blink_size))
            side.write(spool.read(item.side_size))


def _json_line(values: dict[str, Any]) -> bytes:
    return to_json(values).encode("ascii") + b"\n"


def _check_enough_is_left(kept: list[_Spooled], bad: BadLines, lines: int, split: Split, config: ConvertConfig) -> None:
    file = f"mentions/{MENTION_FILES[split]}"
    if bad.count > config.max_bad_share * lines:
        expected = f"at most {config.max_bad_share:.2%} (max_bad_share)"
        got = f"{bad.count:,} of {lines:,}, {bad.count / lines:.2%}"
        raise DataError(f"too many broken mentions, the first: {bad.first}", file=file, expected=expected, got=got)
    if not kept:
        raise DataError("no mentions", file=file, expected="at least one", got=f"{lines:,} lines, all broken")
