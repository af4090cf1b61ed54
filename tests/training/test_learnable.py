"""Data from which nothing can be learned is counted and logged before a training."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.conftest import MakeFit
from tests.training.results import result
from zeshel_tasks.data.candidate_sets import NO_CANDIDATE, CandidateSets
from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.data.search_set import EntitySample, SearchSet
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.training.biencoder_objective import BiencoderObjective
from zeshel_tasks.training.fit import fit
from zeshel_tasks.training.learnable import warn_of_pairs, warn_of_sets, warn_of_small_worlds

TRAIN = "train mentions have only their own gold in their batch"


@pytest.fixture
def pairs(pair_tables: Path) -> GoldPairs:
    return GoldPairs.load(pair_tables / "train")


def first(pairs: GoldPairs, count: int, **mentions: Any) -> GoldPairs:
    """Returns the first mentions, with the given columns changed."""
    names = ("contexts", "world", "label", "category")
    cut = {name: np.array(getattr(pairs.mentions, name)[:count]) for name in names}
    return replace(pairs, mentions=replace(pairs.mentions, **cut | mentions), gold_row=np.array(pairs.gold_row[:count]))


def warnings(caplog: pytest.LogCaptureFixture, train: GoldPairs, **settings: Any) -> str:
    defaults = {"train_batch_size": 4, "shuffle": False}
    recipe = build_recipe("smoke", {"train_biencoder": defaults | settings})
    warn_of_pairs(train, recipe.train_biencoder)
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    return caplog.text


def test_usual_data_gives_no_warning(pairs: GoldPairs, caplog: pytest.LogCaptureFixture) -> None:
    assert warnings(caplog, pairs) == ""
    assert warnings(caplog, pairs, one_world_batches=True, gradient_accumulation_steps=2) == ""


def test_single_mention_is_counted(pairs: GoldPairs, caplog: pytest.LogCaptureFixture) -> None:
    assert f"1 of 1 {TRAIN}" in warnings(caplog, first(pairs, 1))


def test_mentions_of_one_entity_are_counted(pairs: GoldPairs, caplog: pytest.LogCaptureFixture) -> None:
    same = replace(pairs, gold_row=np.zeros_like(pairs.gold_row))
    assert f"{len(pairs.mentions)} of {len(pairs.mentions)} {TRAIN}" in warnings(caplog, same)


def test_parts_of_a_batch_count_by_themselves_without_the_cache(
    pairs: GoldPairs, caplog: pytest.LogCaptureFixture
) -> None:
    """Each half of a batch has one gold."""
    doubled = replace(pairs, gold_row=np.arange(len(pairs.gold_row)) // 2)
    cached = {"gradient_accumulation_steps": 2, "gradient_cache": True}
    assert TRAIN not in warnings(caplog, doubled, **cached)
    assert f"{len(pairs.mentions)} of {len(pairs.mentions)} {TRAIN}" in warnings(
        caplog, doubled, gradient_accumulation_steps=2
    )


def test_batches_of_one_world_count_by_themselves(pairs: GoldPairs, caplog: pytest.LogCaptureFixture) -> None:
    """Four mentions of one entity are a batch of their world, and are mixed with others otherwise."""
    world = np.array([0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1], dtype=np.int32)
    data = replace(first(pairs, 12, world=world), gold_row=np.where(world == 0, 0, np.arange(12)))
    assert TRAIN not in warnings(caplog, data)
    assert f"4 of 12 {TRAIN}" in warnings(caplog, data, one_world_batches=True)


def test_hard_negatives_before_the_first_epoch_teach_a_single_mention(
    pairs: GoldPairs, caplog: pytest.LogCaptureFixture
) -> None:
    assert TRAIN not in warnings(caplog, first(pairs, 1), hard_negatives=1, num_train_epochs=1)
    assert TRAIN in warnings(caplog, first(pairs, 1), hard_negatives=1, num_train_epochs=2)


def test_valid_worlds_without_a_wrong_choice_are_counted(pairs: GoldPairs, caplog: pytest.LogCaptureFixture) -> None:
    """The sample of a world stands for all its entities."""
    ten = first(pairs, 10, world=np.array([0] * 4 + [1] * 6, dtype=np.int32)).mentions
    sizes = (20, 21)
    weights = [np.full(3, size / 3, dtype=np.float32) for size in sizes]
    samples = [EntitySample(pairs.golds[:3], np.arange(3), weight) for weight in weights]
    searched = SearchSet(replace(ten, worlds=ten.worlds[:2]), dict(zip(ten.worlds, samples, strict=False)))
    warn_of_small_worlds(searched, 19)
    assert caplog.text == ""
    warn_of_small_worlds(searched, 20)
    assert "4 of 10 valid mentions are of worlds of up to 20 entities" in caplog.text


def test_golds_without_another_candidate_are_counted(pairs: GoldPairs, caplog: pytest.LogCaptureFixture) -> None:
    ten = first(pairs, 10).mentions
    candidates = np.tile(np.array([[1, 2]], dtype=np.int32), (10, 1))
    rank = np.zeros(10, dtype=np.int32)
    rank[9] = -1
    valid = CandidateSets(ten, candidates, rank, {})
    few = candidates.copy()
    few[:3, 1], few[9, 1] = NO_CANDIDATE, NO_CANDIDATE
    warn_of_sets(valid, valid)
    assert caplog.text == ""
    warn_of_sets(replace(valid, candidates=few), valid)
    assert "3 of 9 train mentions have their gold as their only candidate, so they teach nothing" in caplog.text
    warn_of_sets(valid, replace(valid, candidates=few))
    assert "3 of 9 valid mentions have their gold as their only candidate, so they count as correct" in caplog.text


def test_epoch_whose_loss_is_always_zero_is_logged(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loss = BiencoderObjective.loss
    monkeypatch.setattr(BiencoderObjective, "loss", lambda *arguments: 0 * loss(*arguments))
    caplog.set_level(logging.WARNING)
    task = biencoder_fit(num_train_epochs=1)
    fit(task)
    assert "epoch 1: the loss was 0 in every step, so nothing was learned" in caplog.text
    assert result(task)["metrics"]["epochs"][0]["train_loss"] == 0


def test_single_step_must_not_be_warmup(biencoder_fit: MakeFit) -> None:
    """Its learning rate is 0. Two steps have one with a learning rate."""
    with pytest.raises(ConfigError, match="warmup_proportion: expected less than 1 for a training of 1 step"):
        fit(biencoder_fit(num_train_epochs=1, train_batch_size=10_000, warmup_proportion=1.0))
