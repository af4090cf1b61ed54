"""The split of each mention."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeshel_tasks.config.splits import Shares
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.importing.mention_table import MentionRow, MentionTable
from zeshel_tasks.importing.splits import SplitBy, assign_splits, check_worlds

Mention = tuple[str, str, str | None]
"""World, text and entity."""


def assigned(
    path: Path, mentions: list[Mention], shares: str, by: SplitBy = "mention", seed: int = 7, given: str | None = None
) -> list[str]:
    """Returns the split of each mention; the first one has the split ``given``."""
    path.unlink(missing_ok=True)
    table, texts = MentionTable(path), dict[tuple[str, str], int]()
    for number, (world, text, gold) in enumerate(mentions):
        key = world, text
        texts[key] = texts[key] if key in texts else table.add_text(world, text, "")
        row = MentionRow(f"m{number}", gold, "x", 0, 0, given if number == 0 else None)
        table.add_mention(texts[key], row)
    assign_splits(table, Shares.parse(shares), by, seed)
    check_worlds(table)
    found = [split for (split,) in table.rows("SELECT split FROM mentions ORDER BY number")]
    table.close()
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("splits") / "table"


def many(count: int, worlds: int = 1, golds: int = 10) -> list[Mention]:
    return [(f"w{n % worlds}", f"t{n // 2}", f"e{n % golds}" if n % 7 else None) for n in range(count)]


def test_shares_are_kept(path: Path) -> None:
    found = assigned(path, many(100), "train=0.8,valid=0.15,test=0.05")
    assert Counter(found) == {"train": 80, "valid": 15, "test": 5}


def test_split_depends_on_the_seed_and_not_on_the_order(path: Path) -> None:
    mentions = [("w", f"t{n}", "e") for n in range(40)]
    texts = dict(
        zip((text for _, text, _ in mentions), assigned(path, mentions, "train=0.5,test=0.5", "document"), strict=True)
    )
    backwards = assigned(path, mentions[::-1], "train=0.5,test=0.5", "document")
    assert [texts[text] for _, text, _ in mentions[::-1]] == backwards
    assert assigned(path, mentions, "train=0.5,test=0.5", "document", seed=8) != list(texts.values())


@pytest.mark.parametrize("by", ["document", "world"])
def test_what_belongs_together_is_in_one_split(path: Path, by: SplitBy) -> None:
    mentions = many(120, worlds=12 if by == "world" else 1)
    found = assigned(path, mentions, "train=0.6,valid=0.2,test=0.2", by)
    units = {(world if by == "world" else text, split) for (world, text, _), split in zip(mentions, found, strict=True)}
    assert len(units) == len({unit for unit, _ in units}) == (12 if by == "world" else 60)
    assert set(found) == {"train", "valid", "test"}


@settings(max_examples=40)
@given(
    golds=st.lists(st.sampled_from(["a", "b", "c", "d", "e", None]), min_size=12, max_size=40),
    seed=st.integers(0, 5),
    by=st.sampled_from(["mention", "document"]),
)
def test_held_out_mentions_follow_the_rules_of_zeshel(
    path: Path, golds: list[str | None], seed: int, by: SplitBy
) -> None:
    mentions = [("w", f"t{number // 2}", gold) for number, gold in enumerate(golds)]
    try:
        found = assigned(
            path, mentions, "train=0.5,valid=0.1,heldout_train_seen=0.2,heldout_train_unseen=0.2", by, seed
        )
    except ConfigError as error:
        assert "mentions to hold out" in str(error)  # noqa: PT017
        return
    of = {
        split: {gold for gold, place in zip(golds, found, strict=True) if place == split and gold}
        for split in set(found)
    }
    assert of["heldout_train_seen"] <= of["train"]
    assert not of["heldout_train_unseen"] & (of["train"] | of["heldout_train_seen"])


def test_every_split_gets_something_of_few(path: Path) -> None:
    assert sorted(assigned(path, [("w", f"t{n}", "e") for n in range(3)], "train=0.98,valid=0.01,test=0.01")) == [
        "test",
        "train",
        "valid",
    ]


@pytest.mark.parametrize(
    ("by", "message"), [("mention", "3 mentions for train, valid, test, got 2"), ("world", "3 worlds for .*, got 1")]
)
def test_too_few_for_the_splits_are_refused(path: Path, by: SplitBy, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--shares: expected {message}$"):
        assigned(path, [("w", "t", "e")] * 2, "train=0.8,valid=0.1,test=0.1", by)


def test_own_split_of_a_mention_stays(path: Path) -> None:
    assert assigned(path, many(20), "train=1", given="test")[0] == "test"


def test_held_out_mention_of_no_training_world_is_refused(path: Path) -> None:
    with pytest.raises(DataError, match=r"held out of no training world .*; got w0"):
        assigned(path, [("w0", "a", "e"), ("w1", "b", "e")], "train=1", given="heldout_train_seen")
