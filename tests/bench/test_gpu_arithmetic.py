"""bench/gpu counts and adds up correctly, and its checks detect wrong numbers."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import ours
from bench.gpu import numerics
from bench.gpu.flops import TRAINING, biencoder_step_flop, pairs_flop, tower_flop
from bench.gpu.numerics import Check, apart, checks
from bench.gpu.projection import Amounts, Rates, stages, table, total
from bench.gpu.setup import Setup
from bench.gpu.shape import Shape, write_model
from bench.gpu.tables import PAD
from zeshel_tasks.evaluation.rerank import candidate_scores
from zeshel_tasks.models import encoder as encoder_module
from zeshel_tasks.models.batches import TokenBatch, token_batch, used_lengths
from zeshel_tasks.models.biencoder import new_biencoder
from zeshel_tasks.models.crossencoder import new_crossencoder
from zeshel_tasks.models.first_token import first_token
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.training.optimizer import choose_trained

CPU = torch.device("cpu")
SHAPE = Shape(layers=3, hidden=32, heads=2, intermediate=96, vocabulary=60)
ONES = Rates(train_biencoder=1, encode=1, search=1, train_crossencoder=1, score=1)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("gpu")
    write_model(SHAPE, folder / "model")
    return Setup(SHAPE, folder / "model", folder, CPU, length=24, batch=6, encode_batch=5, candidates=3, entities=40)


def counted(run: Callable[[], object]) -> int:
    """Returns the FLOP that torch counts. Uses plain products for attention, whose CPU kernel torch cannot count."""
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        run()
    return counter.get_total_flops()


def test_tower_flop_matches_count_by_torch(setup: Setup) -> None:
    model, _ = new_biencoder(setup.model, setup.recipe.train_biencoder)
    batch = token_batch(setup.tables().tokens(7), PAD, CPU)
    with torch.no_grad():
        found = counted(lambda: model.eval().cand_encoder(batch))
    assert found == tower_flop(SHAPE, 7, setup.length)


def test_biencoder_step_flop_matches_count_by_torch(setup: Setup) -> None:
    recipe = setup.with_settings(attention_dropout=0).recipe
    model, settings = new_biencoder(setup.model, recipe.train_biencoder)
    choose_trained(model, "all")
    pairs, tokenizer = setup.tables().pairs(setup.batch), ours.tokenizer_of(setup.model)
    objective = ours.biencoder_objective(pairs, settings, tokenizer, ours.accelerator_of(recipe), recipe)
    found = counted(lambda: objective.loss(model, np.arange(setup.batch)).backward())
    assert found == pytest.approx(biencoder_step_flop(SHAPE, setup.batch, setup.length), rel=0.02)


def test_pairs_flop_matches_count_by_torch(setup: Setup) -> None:
    model, _ = new_crossencoder(setup.model, setup.recipe.train_crossencoder)
    sets, rows = setup.tables().sets(4, setup.candidates), np.arange(4)
    pairs = len(rows) * setup.candidates

    def scores() -> torch.Tensor:
        return candidate_scores(model, sets, rows, 2 * setup.length, PAD, CPU)

    with torch.no_grad():
        assert counted(scores) == pairs_flop(SHAPE, pairs, setup.pair_length)
    trained = counted(lambda: scores().sum().backward())
    assert trained == pytest.approx(TRAINING * pairs_flop(SHAPE, pairs, setup.pair_length), rel=0.02)


def test_bert_large_flop_follows_from_its_parameters() -> None:
    """2 FLOP for each of the layers' 302 million weights and each token, except for most of the last layer."""
    shape, weights = Shape(), 24 * (4 * 1024**2 + 2 * 1024 * 4096)
    attention = 24 * 4 * 128 * 1024
    assert tower_flop(shape, 1, 128) / 128 == pytest.approx((2 * weights + attention) * (1 - 10 / 12 / 24), rel=0.005)


def test_tables_have_requested_lengths(setup: Setup) -> None:
    assert set(used_lengths(setup.tables().tokens(20), PAD)) == {24}
    assert set(used_lengths(setup.tables(shortest=22).tokens(100), PAD)) == {22, 23, 24}


def test_candidate_sets_have_no_duplicates(setup: Setup) -> None:
    sets = setup.tables().sets(5, 4)
    assert all(len(set(row)) == 4 for row in sets.candidates.tolist())
    assert sets.retrieved.tolist() == [0, 1, 2, 3, 4]


def test_compiling_keeps_vectors_and_skips_last_layer(setup: Setup) -> None:
    model, _ = new_biencoder(setup.model, setup.recipe.train_biencoder)
    batch = token_batch(setup.tables().tokens(4), PAD, CPU)
    with torch.inference_mode():
        expected = model.eval().cand_encoder(batch)
        replace(setup, compiled="eager").ready(model)
        compiled = [layer._compiled_call_impl is not None for layer in model.cand_encoder.bert_model.encoder.layer]
        assert compiled == [True, True, False]
        torch.testing.assert_close(model.cand_encoder(batch), expected)


def test_unmodified_package_passes_all_checks(setup: Setup) -> None:
    found = list(checks(setup))
    assert len(found) == 10
    assert all(check.ok for check in found), [check.line() for check in found]


def test_attended_padding_is_detected(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_mask(bert: object, batch: TokenBatch, layers: int) -> torch.Tensor:
        return first_token(bert, batch._replace(mask=None), layers)

    monkeypatch.setattr(encoder_module, "first_token", without_mask)
    wrong = [check.what for check in numerics.checks(setup) if not check.ok]
    assert wrong == ["vectors, the first token alone and transformers' forward, apart"]


def test_nan_fails_the_check() -> None:
    assert not Check("", float("nan"), 1).ok
    assert "WRONG" in Check("", float("nan"), 1).line()


def test_apart_is_relative_to_distance_from_mean() -> None:
    rows = torch.tensor([[100.0, 1], [100, -1]])
    assert apart(rows, rows) == 0
    assert apart(rows + torch.tensor([0.0, 0.5]), rows) == pytest.approx(0.5)


def test_hours_are_items_over_rates() -> None:
    sizes = {"train": 3600, "valid": 7200, "test": 10_800, "entities": 36_000, "searched": 14_400}
    amounts = Amounts(**sizes, biencoder_epochs=2, crossencoder_epochs=3, mining_rounds=7)
    everyone = 1 + 2 + 3
    found = [stage.hours for stage in stages(ONES, amounts)]
    assert found == [2 * 1, 7 * 11, 2 * (2 + 4), 10, 2 * everyone, 3 * 1, 3 * 2, 2 + 3]
    assert total(stages(replace(ONES, score=2), amounts)) == 2 + 77 + 12 + 10 + 12 + 3 + 3 + 2.5
    harder = replace(amounts, biencoder_step=2.5, candidates_share=0.5)
    assert [stage.hours for stage in stages(ONES, harder)] == [5, *found[1:5], 1.5, *found[6:]]


def test_amounts_are_those_of_the_preset() -> None:
    best = Amounts.of(build_recipe("best"))
    assert best.biencoder_step == pytest.approx(4 / 2 * 4 / 3)  # mention, gold, 2 negatives; forward twice
    assert (best.biencoder_epochs, best.mining_rounds, best.candidates_share) == (10, 10, 0.25)
    assert Amounts.of(build_recipe("blink")) == Amounts()


def test_hours_in_the_docs_are_computed_from_the_rates_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "recipe.md").read_text(encoding="utf-8").partition("### Hours")[2]
    numbers = re.findall(r"[\d,]+\.\d\d(?=\s)", text.partition("the hours are")[0])
    names = ("train_biencoder", "encode", "search", "train_crossencoder", "score")
    rates = Rates(**{name: float(found.replace(",", "")) for name, found in zip(names, numbers, strict=True)})
    rows = [line.split("|")[2:5] for line in text.splitlines() if re.match(r"\| .* \d", line)]
    for column, preset in enumerate(("blink", "recommended", "best")):
        *_, computed = zip(*table({"": rates}, Amounts.of(build_recipe(preset))), strict=True)
        assert [row[column].strip() for row in rows] == list(computed[1:])


def test_projection_adds_up_in_each_column() -> None:
    rates = Rates(train_biencoder=700, encode=5000, search=3000, train_crossencoder=14, score=45)
    headings, *lines, last = table({"one": rates, "other": replace(rates, score=90)}, Amounts())
    assert headings[1:] == ("one", "other")
    for column in (1, 2):
        assert float(last[column]) == pytest.approx(sum(float(line[column]) for line in lines), abs=0.004)
    assert len(lines) == 8
