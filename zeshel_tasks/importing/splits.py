"""Decides about the split of each mention: by shares, in an order that only the seed and the ids determine.

Texts or whole worlds go to train, valid or test. Some mentions of train are then held out, by ZESHEL's rules: the
entities of ``heldout_train_unseen`` have no mention in train, those of ``heldout_train_seen`` have.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from zeshel_tasks.config.splits import HELDOUT_SPLITS, SPLITS, Shares, Split
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.importing.mention_table import MentionTable

SplitBy = Literal["mention", "document", "world"]
"""What stays together in one split."""

_UNIT = {
    "mention": "mentions.id",
    "document": "texts.world || '/' || texts.id",  # no world has a slash in its name
    "world": "texts.world",
}
_JOINED = "mentions JOIN texts ON mentions.text = texts.number"
_TRAIN = "split = 'train' AND mentions.gold IS NOT NULL"


def assign_splits(table: MentionTable, shares: Shares, by: SplitBy, seed: int) -> None:
    """Gives every mention without a split one.

    Raises:
        ConfigError: there are too few mentions, texts or worlds for the splits.
    """
    total = _count(table, "is_free")
    if not total:
        return
    main: dict[Split, float] = {split: shares.of[split] for split in SPLITS if split in shares.of}
    _assign_units(table, main | ({"train": shares.of_train()} if "train" in shares.of else {}), by, seed)
    for split in reversed(HELDOUT_SPLITS):
        if split in shares.of:
            wanted = max(1, round(shares.of[split] * total))
            hold_out = _hold_out_unseen if split == "heldout_train_unseen" else _hold_out_seen
            hold_out(table, wanted, seed)
            if not _count(table, f"is_free AND split = '{split}'"):
                raise _too_few(f"mentions to hold out for {split}, beside others in train")


def check_worlds(table: MentionTable) -> None:
    """Checks that held-out mentions are of worlds with train mentions.

    Raises:
        DataError: one is not.
    """
    query = (
        f"SELECT DISTINCT texts.world FROM {_JOINED} WHERE split LIKE 'heldout%' AND gold IS NOT NULL AND texts.world "
        f"NOT IN (SELECT texts.world FROM {_JOINED} WHERE split = 'train' AND gold IS NOT NULL)"
    )
    for (world,) in table.rows(query):
        raise DataError(
            "held out of no training world", field="world", expected="a world with train mentions", got=world
        )


def _assign_units(table: MentionTable, shares: dict[Split, float], by: SplitBy, seed: int) -> None:
    unit = _UNIT[by]
    table.database.execute(
        f"CREATE TEMP TABLE units AS SELECT unit, row_number() OVER (ORDER BY rank(?, unit)) - 1 AS place FROM "
        f"(SELECT DISTINCT {unit} AS unit FROM {_JOINED} WHERE is_free)",
        (seed,),
    )
    table.database.execute("CREATE UNIQUE INDEX temp.by_unit ON units (unit)")
    count = _count(table, "1", "units")
    if count < len(shares):
        raise _too_few(f"{len(shares)} {by}s for {', '.join(shares)}", f"{count}")
    for split, (first, last) in zip(shares, pairwise(_edges(count, list(shares.values()))), strict=True):
        table.database.execute(
            f"UPDATE mentions SET split = ? FROM texts, units WHERE mentions.text = texts.number AND is_free "
            f"AND units.unit = {unit} AND units.place >= ? AND units.place < ?",
            (split, first, last),
        )
    table.database.execute("DROP TABLE units")


def _edges(count: int, shares: list[float]) -> list[int]:
    """Where the parts of a row of ``count`` begin, and its end. Each part has one at least."""
    edges = [0]
    for number, share in enumerate(shares, start=1):
        left = len(shares) - number
        edge = round(edges[-1] + share * count) if left else count
        edges.append(min(max(edge, edges[-1] + 1), count - left))
    return edges


def _hold_out_unseen(table: MentionTable, wanted: int, seed: int) -> None:
    """Holds out all train mentions of some entities, until they are enough, but not those of all entities."""
    table.database.execute(
        "CREATE TEMP TABLE unseen AS SELECT world, gold FROM (SELECT world, gold, count(*) AS mentions, "
        "min(is_free) AS is_free, sum(count(*)) OVER (ORDER BY min(is_free) DESC, rank(?, world, gold)) AS so_far, "
        f"sum(count(*)) OVER () AS all_mentions FROM {_JOINED} WHERE {_TRAIN} GROUP BY world, gold) "
        "WHERE is_free AND so_far - mentions < ? AND so_far < all_mentions",
        (seed, wanted),
    )
    table.database.execute("CREATE UNIQUE INDEX temp.by_gold ON unseen (world, gold)")
    table.database.execute(
        "UPDATE mentions SET split = 'heldout_train_unseen' FROM texts, unseen WHERE mentions.text = texts.number "
        f"AND {_TRAIN} AND unseen.world = texts.world AND unseen.gold = mentions.gold"
    )
    table.database.execute("DROP TABLE unseen")


def _hold_out_seen(table: MentionTable, wanted: int, seed: int) -> None:
    """Holds out train mentions, but not the last one of an entity."""
    ranked = (
        "SELECT mentions.number, is_free, rank(?, world, mentions.id) AS place, row_number() OVER "
        "(PARTITION BY world, gold ORDER BY is_free, rank(?, world, mentions.id)) AS rank_of_gold "
        f"FROM {_JOINED} WHERE {_TRAIN}"
    )
    chosen = f"SELECT number FROM ({ranked}) WHERE is_free AND rank_of_gold > 1 ORDER BY place LIMIT ?"
    table.database.execute(
        f"UPDATE mentions SET split = 'heldout_train_seen' WHERE number IN ({chosen})", (seed, seed, wanted)
    )


def _count(table: MentionTable, condition: str, of: str = "mentions") -> int:
    return int(table.database.execute(f"SELECT count(*) FROM {of} WHERE {condition}").fetchone()[0])


def _too_few(expected: str, got: str = "too few") -> ConfigError:
    return ConfigError(f"--shares: expected {expected}, got {got}")
