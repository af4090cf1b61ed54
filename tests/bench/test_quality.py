"""bench.quality: its sample, its statistics, its tables, and that a restarted bench does nothing twice."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.quality.__main__ import main
from bench.quality.intervals import gain, share
from bench.quality.rows import row_named
from bench.quality.sample import Sample, hard_worlds
from bench.quality.tables import Result, tables
from bench.quality.trained import epochs_within, rank_by_score


def data_set(folder: Path, sizes: dict[str, tuple[str, int, int]]) -> Path:
    """Write worlds of (split, entities, mentions)."""
    for name in ("documents", "mentions"):
        (folder / name).mkdir(parents=True)
    for file in ("train", "val", "test"):
        worlds = [world for world, (split, _, _) in sizes.items() if split == file]
        mentions = [{"corpus": world, "mention_id": f"{world}{n}"} for world in worlds for n in range(sizes[world][2])]
        (folder / "mentions" / f"{file}.json").write_text("".join(json.dumps(line) + "\n" for line in mentions))
    for world, (_, entities, _) in sizes.items():
        (folder / "documents" / f"{world}.json").write_text("{}\n" * entities)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    worlds = {
        "huge": ("train", 3000, 60),
        "large": ("train", 2000, 50),
        "largest": ("train", 4000, 40),
        "few_mentions": ("train", 5000, 9),
        "small": ("train", 100, 30),
        "valid": ("val", 10, 30),
        "test": ("test", 10, 5),
    }
    return data_set(tmp_path / "data", worlds)


def ids(folder: Path, file: str) -> list[str]:
    return [json.loads(line)["mention_id"] for line in (folder / "mentions" / file).read_text().splitlines()]


def test_held_out_worlds_are_large_and_have_enough_mentions_but_the_fewest(data: Path) -> None:
    assert hard_worlds(data, 20) == ("largest", "large")


def test_held_out_worlds_are_evaluated_and_not_trained_on(data: Path, tmp_path: Path) -> None:
    folder = Sample(data, ("largest",), 20, 20).write(tmp_path / "sample", 149)
    assert sum(name.startswith("largest") for name in ids(folder, "val.json")) == 20
    assert sum(name.startswith("valid") for name in ids(folder, "val.json")) == 20
    assert not any(name.startswith("largest") for name in ids(folder, "train.json"))
    assert sorted(ids(folder, "test.json")) == [f"test{n}" for n in range(5)]  # all of a world with fewer


def test_valid_may_have_fewer_mentions_and_train_fewer_worlds(data: Path, tmp_path: Path) -> None:
    folder = Sample(data, ("largest",), 20, 7, without=("huge", "few_mentions")).write(tmp_path / "sample", 80)
    assert len(ids(folder, "val.json")) == 14
    assert len(ids(folder, "test.json")) == 5
    assert {name.rstrip("0123456789") for name in ids(folder, "train.json")} == {"large", "small"}


def test_fewer_train_mentions_are_among_more_and_the_evaluated_mentions_are_the_same(
    data: Path, tmp_path: Path
) -> None:
    sample = Sample(data, (), 20, 20)
    few, more = sample.write(tmp_path / "few", 30), sample.write(tmp_path / "more", 90)
    assert set(ids(few, "train.json")) < set(ids(more, "train.json"))
    assert len(ids(few, "train.json")) == 30
    assert [ids(few, file) for file in ("val.json", "test.json")] == [
        ids(more, file) for file in ("val.json", "test.json")
    ]


def test_more_train_mentions_than_there_are_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"--mentions: expected at most 189, got 190"):
        Sample(data, (), 20, 20).write(tmp_path / "sample", 190)


def test_share_is_the_mean_over_worlds_with_its_standard_error() -> None:
    ranks = {"a": np.array([0, 1, 7, 8]), "b": np.array([-1] * 10)}
    found = share(ranks, 8)
    assert found.value == pytest.approx(0.375)  # 3 of 4, and none
    assert found.error == pytest.approx(np.sqrt(0.75 * 0.25 / 3) / 2)


def test_interval_of_a_gain_is_paired() -> None:
    random = np.random.default_rng(1)
    ranks = {"a": random.integers(0, 2, 1000)}
    better = {"a": np.where(np.arange(1000) < 20, 0, ranks["a"])}
    found = gain(better, ranks, 1)
    assert found.value == pytest.approx(np.mean(better["a"] == 0) - np.mean(ranks["a"] == 0))
    assert 0 < found.low < found.value < found.high < 0.02  # unpaired, the standard error alone would be 0.022
    assert gain(ranks, ranks, 1).low == gain(ranks, ranks, 1).high == 0


def test_interval_of_a_gain_weighs_worlds_alike() -> None:
    mine = {"a": np.zeros(2000, dtype=int), "b": np.array([0] * 10)}
    other = {"a": np.zeros(2000, dtype=int), "b": np.array([1] * 5 + [0] * 5)}
    found = gain(mine, other, 1)
    assert found.value == pytest.approx(0.25)
    assert found.low == pytest.approx(0.25 - 1.96 * np.sqrt(0.25 / 10) / 2, abs=0.03)


def test_rows_with_different_mentions_are_not_compared() -> None:
    with pytest.raises(ValueError, match="a: expected the same mentions"):
        gain({"a": np.zeros(2)}, {"a": np.zeros(3)}, 1)


def test_rank_by_score_counts_what_is_ahead_of_the_gold() -> None:
    scores = np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [5.0, 4.0, -np.inf]])
    assert rank_by_score(scores, np.array([2, 1, -1])).tolist() == [1, 1, -1]


@pytest.mark.parametrize(("seconds_an_epoch", "epochs"), [(10, 4), (20, 3), (60, 1), (61, 0)])
def test_as_many_whole_epochs_as_fit(seconds_an_epoch: float, epochs: int) -> None:
    assert epochs_within(1, seconds_an_epoch, 4) == epochs


def test_row_may_have_settings_of_its_own() -> None:
    row = row_named("bi-encoder with train_biencoder.pooling=cls,seed=2")
    assert row.settings == {"train_biencoder.pooling": "cls", "seed": "2"}
    assert row.ranking == "biencoder"
    with pytest.raises(SystemExit, match="--row: expected one of bi-encoder, "):
        row_named("encoder")


def test_tables_compare_rows_on_the_same_train_mentions() -> None:
    worlds = {"test": {"m1": "a", "m2": "a"}}
    results = [
        Result("BM25", {"test": {"m1": 0, "m2": 70}}),
        Result("retriever", {"test": {"m1": 0, "m2": 1}}, 650, "4", 3.14, 0.5),
        Result("linker", {"test": {"m1": 0, "m2": 0}}, 650, "4, 1", 9, 1),
        Result("linker", {}, 2600, note="an epoch takes too long"),
    ]
    lines = list(tables(results, worlds, ["BM25", "retriever"]))
    assert "| retriever | 650 | 4 | 3.1 | 0.50 |" in lines
    assert "| linker | 2,600 | an epoch takes too long |  |  |" in lines
    assert "| retriever | 650 | 50.0 ±50.0 | 100.0 ±0.0 | 100.0 ±0.0 |" in lines
    start = lines.index("Mean of the test worlds, points more than retriever (95% interval):")
    assert [line.split(" | ")[0] for line in lines[start + 4 : start + 6]] == ["| linker", ""]


def test_tables_show_no_recall_at_more_candidates_than_there_are() -> None:
    few = Result("retriever", {"test": {"m1": 0}}, 650, candidates=8)
    lines = list(tables([Result("BM25", {"test": {"m1": 0}}), few], {"test": {"m1": "a"}}, ["BM25"]))
    assert "| retriever | 650 | 100.0 ±0.0 | 100.0 ±0.0 |  |" in lines
    assert "| retriever | 650 | +0.0 (+0.0 to +0.0) | +0.0 (+0.0 to +0.0) |  |" in lines
    assert "| BM25 |  | 100.0 ±0.0 | 100.0 ±0.0 | 100.0 ±0.0 |" in lines


def test_restarted_bench_goes_on_from_what_is_there(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["max_context_length=32", "max_cand_length=32", "eval_biencoder.top_k=8", "num_train_epochs=1"]
    arguments = [
        f"--data={golden / 'raw'}", f"--model={golden / 'bert'}", f"--work={tmp_path / 'work'}", "--mentions=40",
        "--evaluated=4", "--row=bi-encoder", "--row=retriever", *(f"--set={setting}" for setting in settings),
    ]  # fmt: skip
    main([*arguments, f"--out={tmp_path / 'first.md'}"])
    monkeypatch.setattr("zeshel_tasks.pipeline.contract.work_and_commit", lambda *_: pytest.fail("worked again"))
    main([*arguments, f"--out={tmp_path / 'second.md'}"])
    first, second = ((tmp_path / name).read_text() for name in ("first.md", "second.md"))
    assert first.replace("first.md", "second.md") == second
    for row in ("exact title match", "BM25", "bi-encoder without training", "bi-encoder", "retriever"):
        assert f"| {row} |" in first
