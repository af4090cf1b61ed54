"""Held-out mentions are measured only if they are held out of train."""

import logging

import pytest

from tests.support.data_set_files import DataSetFiles, mention
from tests.support.faults import Fault
from zeshel_tasks.config.data import ConvertConfig
from zeshel_tasks.data.blink_format import SplitSummary, convert_split, read_blink_mentions
from zeshel_tasks.data.heldout import HeldoutGolds, count_golds
from zeshel_tasks.data.zeshel import Dataset
from zeshel_tasks.errors import DataError

SEEN = "mentions/heldout_train_seen.json"
ALL_MAY_BE_BAD = ConvertConfig(max_bad_share=1)

# In the data set, train has the mentions 0 and 1 of aster, whose golds are the entities 1 and 2.
HELD_OUT = mention("aster", 2)
IN_TRAIN = mention("aster", 1) | {"mention_id": "m-other-id"}
OF_TEST = mention("cinder", 2)


def convert(data_set: DataSetFiles, config: ConvertConfig | None = None) -> SplitSummary:
    root = data_set.write()
    return convert_split(Dataset(root), "heldout_train_seen", root / "out", config or ConvertConfig())


def test_mentions_that_are_held_out_are_kept(data_set: DataSetFiles) -> None:
    data_set.files[SEEN] = [HELD_OUT, mention("aster", 0) | {"start_index": 1, "end_index": 1, "text": "aster"}]
    summary = convert(data_set)
    assert (summary.mentions, summary.skipped) == (2, 0)


@pytest.mark.parametrize(
    ("leaked", "problem"),
    [
        (
            IN_TRAIN,
            "not held out of train (field 'mention_id'); expected a mention that is not in mentions/train.json; "
            "got m-other-id, whose span is on line 2 there",
        ),
        (OF_TEST, "not of a training world (field 'corpus'); expected a world of mentions/train.json; got cinder"),
    ],
    ids=["in train", "of a test world"],
)
@pytest.mark.parametrize("on_bad_mention", ["fail", "skip"])
def test_leaked_mention_is_left_out_counted_and_logged(
    data_set: DataSetFiles,
    caplog: pytest.LogCaptureFixture,
    leaked: dict[str, object],
    problem: str,
    on_bad_mention: str,
    fault: Fault,
) -> None:
    fault("input: held-out mention that is not held out")
    data_set.files[SEEN] = [leaked, HELD_OUT]
    summary = convert(data_set, ALL_MAY_BE_BAD.model_copy(update={"on_bad_mention": on_bad_mention}))
    assert (summary.mentions, summary.skipped) == (1, 1)
    kept = read_blink_mentions(data_set.root / "out" / "heldout_train_seen.jsonl")
    assert [mention.mention_id for mention in kept] == ["m-aster-2"]
    assert f"left out: {SEEN}:1: {problem}" in caplog.text


@pytest.mark.parametrize("leaked", [IN_TRAIN, OF_TEST], ids=["in train", "of a test world"])
def test_more_leaked_mentions_than_allowed_are_refused(
    data_set: DataSetFiles, leaked: dict[str, object], fault: Fault
) -> None:
    fault("input: held-out mention that is not held out")
    data_set.files[SEEN] = [leaked, HELD_OUT]
    with pytest.raises(DataError, match=rf"^{SEEN}: too many broken mentions, .*max_bad_share\); got 1 of 2, 50.00%"):
        convert(data_set)


def test_split_of_leaked_mentions_only_is_refused(data_set: DataSetFiles, fault: Fault) -> None:
    fault("input: held-out mention that is not held out")
    data_set.files[SEEN] = [IN_TRAIN]
    with pytest.raises(DataError, match=f"^{SEEN}: no mentions; expected at least one; got 1 lines, all broken"):
        convert(data_set, ALL_MAY_BE_BAD)


@pytest.mark.parametrize(
    ("split", "number", "in_train", "level"),
    [
        ("heldout_train_seen", 2, 0, logging.WARNING),  # its gold is the entity 0
        ("heldout_train_unseen", 2, 0, logging.INFO),
        ("heldout_train_seen", 1, 1, logging.INFO),
        ("heldout_train_unseen", 1, 1, logging.WARNING),
    ],
)
def test_golds_with_train_mentions_are_counted(
    data_set: DataSetFiles, caplog: pytest.LogCaptureFixture, split: str, number: int, in_train: int, level: int
) -> None:
    caplog.set_level(logging.INFO)
    data_set.files["mentions/train.json"] = [mention("aster", 0), mention("aster", 1)]
    data_set.files[f"mentions/{split}.json"] = [
        mention("aster", 2) | {"label_document_id": f"aster-{(number + 1) % 3}"}
    ]
    root = data_set.write()
    dataset = Dataset(root)
    for each in dataset.splits():
        convert_split(dataset, each, root / "out", ConvertConfig())
    assert count_golds(root / "out", dataset.splits()) == {split: HeldoutGolds(mentions=1, gold_in_train=in_train)}
    (record,) = [record for record in caplog.records if "train mentions, expected" in record.getMessage()]
    assert record.levelno == level
    assert record.getMessage().startswith(f"{split}: {in_train} of 1 mentions have a gold with train mentions")


def test_data_set_without_held_out_mentions_has_no_counts(data_set: DataSetFiles) -> None:
    root = data_set.write()
    assert count_golds(root, Dataset(root).splits()) == {}
