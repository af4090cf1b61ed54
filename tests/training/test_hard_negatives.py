import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tests.support.faults import Fault
from tests.training.conftest import MakeFit
from tests.training.results import assert_bit_identical, result
from tests.training.test_fit import stop_after
from zeshel_tasks.config.biencoder import HardNegativeSource
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.data.search_set import SearchSet
from zeshel_tasks.data.tokens import TokenTable
from zeshel_tasks.errors import DataError, Preempted
from zeshel_tasks.models.batches import Batch, token_batch
from zeshel_tasks.models.biencoder import Biencoder, new_biencoder
from zeshel_tasks.models.tokenizer import load_tokenizer
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.training.biencoder_objective import BiencoderObjective
from zeshel_tasks.training.fit import fit
from zeshel_tasks.training.hard_negatives import NO_NEGATIVE, HardNegatives
from zeshel_tasks.training.launch import run_in_processes


def batch(table: TokenTable) -> Batch:
    return token_batch(table, 0, torch.device("cpu"))


@pytest.fixture
def pairs(pair_tables: Path) -> GoldPairs:
    return GoldPairs.load(pair_tables / "train")


@pytest.fixture
def model(golden: Path) -> Biencoder:
    return new_biencoder(golden / "bert", build_recipe("smoke").train_biencoder)[0].eval()


def negatives(pairs: GoldPairs, entity_tables: dict[str, TokenTable], scratch: Path, count: int = 3) -> HardNegatives:
    return HardNegatives(pairs.mentions, entity_tables, count, rounds=1, epochs=4, seed=1, scratch=scratch)


@pytest.mark.parametrize(
    ("rounds", "epochs", "expected"), [(1, 1, {0}), (1, 4, {2}), (2, 5, {1, 3}), (3, 4, {1, 2, 3}), (9, 2, {0, 1})]
)
def test_hard_negative_rounds_are_evenly_spaced(
    pairs: GoldPairs, entity_tables: dict[str, TokenTable], rounds: int, epochs: int, expected: set[int]
) -> None:
    hard = HardNegatives(pairs.mentions, entity_tables, 2, rounds, epochs, 1, Path())
    assert {epoch for epoch in range(epochs) if hard.due(epoch)} == expected


def test_hard_negatives_rank_high_in_their_world_and_exclude_gold(
    pairs: GoldPairs, entity_tables: dict[str, TokenTable], model: Biencoder, tmp_path: Path
) -> None:
    hard, again = negatives(pairs, entity_tables, tmp_path), negatives(pairs, entity_tables, tmp_path)
    accelerator, beats = Accelerator(cpu=True), []
    for found in (hard, again):
        found.find(model, 0, 2, accelerator, lambda: beats.append(None))
    assert beats
    assert list(tmp_path.iterdir()) == [], "the vectors of a world"
    np.testing.assert_array_equal(hard.table, again.table)
    assert (hard.table != NO_NEGATIVE).all()
    assert not (hard.table == pairs.mentions.label[:, None]).any()
    for world, rows in pairs.mentions.rows_of_world().items():
        contexts = model.context_encoder(batch(pairs.mentions.contexts[rows]))
        everything = model.cand_encoder(batch(entity_tables[world]))
        rank = (-(contexts @ everything.T)).argsort(1).argsort(1).detach().numpy()
        assert (np.take_along_axis(rank, hard.table[rows].astype(np.int64), 1) <= 12).all()


@pytest.mark.parametrize("source", ["bm25", "both"])
def test_hard_negatives_come_from_bm25(
    pairs: GoldPairs,
    entity_tables: dict[str, TokenTable],
    model: Biencoder,
    tmp_path: Path,
    source: HardNegativeSource,
) -> None:
    """The ranking by words has the gold, two other entities and a missing one."""
    label = pairs.mentions.label
    others = np.where(label[:, None] == [[0, 1]], 2, [[0, 1]])
    by_words = np.concatenate([label[:, None], others, np.full_like(others, NO_NEGATIVE)], axis=1).astype(np.int32)
    found = {}
    names: tuple[HardNegativeSource, ...] = ("model", source)
    for name in names:
        hard = HardNegatives(pairs.mentions, entity_tables, 3, 1, 4, 1, tmp_path, name, by_words)
        hard.find(model, 0, 2, Accelerator(cpu=True), lambda: None)
        found[name] = hard.table
        assert not (hard.table == label[:, None]).any()
    if source == "bm25":
        assert (np.sort(found["bm25"], 1)[:, 1:] == np.sort(others, 1)).all()
        assert (np.sort(found["bm25"], 1)[:, 0] == NO_NEGATIVE).all()
    else:
        assert (found["both"] != NO_NEGATIVE).all()
        assert (found["both"] != found["model"]).any()
        assert (found["both"][:, :, None] == others[:, None]).any((1, 2)).mean() > 0.2


@pytest.mark.parametrize(
    ("tower", "problem"), [("context_encoder", "scores of retrieval"), ("cand_encoder", "vectors that are not numbers")]
)
def test_mining_refuses_vectors_that_are_not_numbers(
    pairs: GoldPairs,
    entity_tables: dict[str, TokenTable],
    model: Biencoder,
    tower: str,
    problem: str,
    tmp_path: Path,
    fault: Fault,
) -> None:
    fault("training: scores that are not numbers")
    for parameter in getattr(model, tower).parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(DataError, match=problem):
        negatives(pairs, entity_tables, tmp_path).find(model, 0, 2, Accelerator(cpu=True), lambda: None)


def test_missing_hard_negatives_are_left_out_of_loss(
    pairs: GoldPairs, entity_tables: dict[str, TokenTable], model: Biencoder, golden: Path, tmp_path: Path
) -> None:
    """With one entity besides the gold, there is only one negative."""
    few = negatives(pairs, entity_tables, tmp_path)
    few.table[:, 0] = (pairs.mentions.label + 1) % 80
    one = negatives(pairs, entity_tables, tmp_path, count=1)
    one.table[:] = few.table[:, :1]
    losses = [objective(pairs, golden, found).loss(model, np.arange(6)).item() for found in (few, one)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def objective(pairs: GoldPairs, golden: Path, found: HardNegatives | None) -> BiencoderObjective:
    config = build_recipe("smoke").train_biencoder
    _, settings = new_biencoder(golden / "bert", config)
    tokenizer = load_tokenizer(golden / "bert", lowercase=True)
    return BiencoderObjective(
        pairs, SearchSet(pairs.mentions, {}), settings, tokenizer, Accelerator(cpu=True), config, found
    )


def test_loss_covers_golds_and_hard_negatives(
    pairs: GoldPairs, entity_tables: dict[str, TokenTable], model: Biencoder, golden: Path, tmp_path: Path
) -> None:
    hard, rows = negatives(pairs, entity_tables, tmp_path, count=2), np.arange(5)
    plain = objective(pairs, golden, None).loss(model, rows).item()
    assert objective(pairs, golden, hard).loss(model, rows).item() == pytest.approx(plain), "none are found yet"
    hard.find(model, 0, 2, Accelerator(cpu=True), lambda: None)
    expected = loss_over_distinct_entities(pairs, hard, entity_tables, model, rows)
    assert objective(pairs, golden, hard).loss(model, rows).item() == pytest.approx(expected, abs=1e-5)
    assert expected > plain


@pytest.mark.parametrize("case", ["a gold and a negative", "a negative of two mentions", "the gold of two mentions"])
def test_entity_is_scored_once(
    pairs: GoldPairs,
    entity_tables: dict[str, TokenTable],
    model: Biencoder,
    golden: Path,
    tmp_path: Path,
    case: str,
) -> None:
    world, rows = next(iter(pairs.mentions.rows_of_world().items()))
    rows, label = rows[:4], np.array(pairs.mentions.label)
    label[rows] = [5, 5, 7, 8] if case == "the gold of two mentions" else [5, 6, 7, 8]
    pairs = replace(pairs, mentions=replace(pairs.mentions, label=label), golds=entity_tables[world], gold_row=label)
    hard = negatives(pairs, entity_tables, tmp_path, count=2)
    hard.table[rows] = {
        "a gold and a negative": [[6, 10], [5, 11], [5, 6], [12, 13]],
        "a negative of two mentions": [[10, 11], [10, 11], [12, 11], [10, 13]],
        "the gold of two mentions": [[10, 11], [12, 13], [14, 15], [16, 17]],
    }[case]
    expected = loss_over_distinct_entities(pairs, hard, entity_tables, model, rows)
    assert objective(pairs, golden, hard).loss(model, rows).item() == pytest.approx(expected, abs=1e-5)


def loss_over_distinct_entities(
    pairs: GoldPairs, hard: HardNegatives, entity_tables: dict[str, TokenTable], model: Biencoder, rows: Rows
) -> float:
    golds = [(pairs.mentions.world[row], pairs.mentions.label[row]) for row in rows]
    entities = list(dict.fromkeys(golds + [(pairs.mentions.world[row], at) for row in rows for at in hard.table[row]]))
    tokens = np.stack([entity_tables[pairs.mentions.worlds[world]][position] for world, position in entities])
    with torch.no_grad():
        scores = model.context_encoder(batch(pairs.mentions.contexts[rows])) @ model.cand_encoder(batch(tokens)).T
        targets = torch.tensor([entities.index(gold) for gold in golds])
        return torch.nn.functional.cross_entropy(scores, targets).item()


def test_training_with_hard_negatives_resumes_bit_identically(
    hard_fit: MakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"hard_negatives": 2, "hard_negative_rounds": 2, "num_train_epochs": 3, "one_world_batches": True}
    undisturbed = hard_fit("undisturbed", **settings)
    fit(undisturbed)
    for stops in ((2,), (8,), (9, 3), (17, 1)):
        stopped = hard_fit(f"stopped-{stops}", **settings)
        for steps in stops:
            with monkeypatch.context() as patch:
                stop_after(steps, patch)
                with pytest.raises(Preempted):
                    fit(stopped)
        fit(stopped)
        assert_bit_identical(stopped, undisturbed)


def test_processes_with_worlds_of_unequal_size_do_not_deadlock(hard_fit: MakeFit, golden: Path, tmp_path: Path) -> None:
    task = hard_fit(hard_negatives=1, num_train_epochs=1, stall_minutes=1.0)
    tables = shutil.copytree(task.tables, tmp_path / "tables", ignore=shutil.ignore_patterns("runs", "cache"))
    path = sorted((tables / "entities").glob("*.npy"))[0]
    np.save(path, np.tile(np.load(path), (12, 1)))  # more batches than the other process has
    task = replace(task, tables=tables)
    run_in_processes(fit, task, 2, task.out)
    assert result(task)["metrics"]["steps"] == 8


def test_two_processes_train_on_hard_negatives_like_one(hard_fit: MakeFit, golden: Path) -> None:
    settings = {"hard_negatives": 2, "num_train_epochs": 1, "one_world_batches": True, "learning_rate": 1e-5}
    one, two = (replace(hard_fit(name, **settings), bert=golden / "bert") for name in ("one", "two"))
    fit(one)
    run_in_processes(fit, two, 2, two.out)
    for ours, theirs in zip(result(two)["curve"], result(one)["curve"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
