from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from tests.support.faults import Fault
from zeshel_tasks.data.candidate_sets import NO_CANDIDATE, CandidateSets
from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.data.search_set import EntitySample, SearchSet
from zeshel_tasks.errors import DataError
from zeshel_tasks.models.biencoder import Biencoder, new_biencoder
from zeshel_tasks.models.crossencoder import new_crossencoder
from zeshel_tasks.models.tokenizer import load_tokenizer
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.training.biencoder_objective import BiencoderObjective
from zeshel_tasks.training.crossencoder_objective import CrossencoderObjective


@pytest.fixture
def pairs(pair_tables: Path) -> GoldPairs:
    return GoldPairs.load(pair_tables / "train")


def biencoder_objective(pairs: GoldPairs, golden: Path, *, masked: bool) -> tuple[Biencoder, BiencoderObjective]:
    model, settings = new_biencoder(golden / "bert", build_recipe("smoke").train_biencoder)
    tokenizer = load_tokenizer(golden / "bert", lowercase=True)
    config = build_recipe("smoke", {"mask_duplicate_golds": masked}).train_biencoder
    one = EntitySample(pairs.golds, np.arange(len(pairs.golds)), np.ones(len(pairs.golds), dtype=np.float32))
    searched = SearchSet(pairs.mentions, dict.fromkeys(pairs.mentions.worlds, one))
    return model.eval(), BiencoderObjective(pairs, searched, settings, tokenizer, Accelerator(cpu=True), config)


def test_biencoder_loss_is_cross_entropy_over_batch_golds(pairs: GoldPairs, golden: Path) -> None:
    rows = np.arange(6)
    model, objective = biencoder_objective(pairs, golden, masked=False)
    contexts, golds = (
        torch.from_numpy(np.array(t)).long() for t in (pairs.mentions.contexts[rows], pairs.golds[pairs.gold_row[rows]])
    )
    with torch.no_grad():
        mentions, entities = (
            bert(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state[:, 0]
            for bert, ids in ((model.context_encoder.bert_model, contexts), (model.cand_encoder.bert_model, golds))
        )
        scores = mentions @ entities.T
        assert objective.loss(model, rows).item() == pytest.approx(
            F.cross_entropy(scores, torch.arange(6)).item(), abs=1e-5
        )


def test_shared_gold_is_not_a_negative(pairs: GoldPairs, golden: Path) -> None:
    one = np.zeros(len(pairs.mentions), dtype=np.int32)
    shared = replace(pairs, gold_row=one.astype(np.int64), mentions=replace(pairs.mentions, label=one, world=one))
    model, objective = biencoder_objective(shared, golden, masked=True)
    with torch.no_grad():
        assert objective.loss(model, np.arange(4)).item() == pytest.approx(0, abs=1e-6)
    _, unmasked = biencoder_objective(shared, golden, masked=False)
    with torch.no_grad():
        assert unmasked.loss(model, np.arange(4)).item() == pytest.approx(np.log(4), abs=1e-3)


def candidate_sets(pairs: GoldPairs, top_k: int = 3) -> CandidateSets:
    count = len(pairs.mentions)
    generator = np.random.default_rng(0)
    return CandidateSets(
        mentions=pairs.mentions,
        candidates=generator.integers(0, len(pairs.golds), (count, top_k)).astype(np.int32),
        gold_rank=generator.integers(-1, top_k - 1, count).astype(np.int32),
        tokens=dict.fromkeys(pairs.mentions.worlds, pairs.golds),
    )


def crossencoder_objective(
    sets: CandidateSets, golden: Path, **overrides: object
) -> tuple[torch.nn.Module, CrossencoderObjective]:
    config = build_recipe("smoke", {"train_crossencoder.eval_batch_size": 7, **overrides}).train_crossencoder
    model, settings = new_crossencoder(golden / "bert", config)
    tokenizer = load_tokenizer(golden / "bert", lowercase=True)
    return model.eval(), CrossencoderObjective(sets, sets, settings, tokenizer, Accelerator(cpu=True), config)


def test_crossencoder_trains_only_on_mentions_with_retrieved_gold(pairs: GoldPairs, golden: Path) -> None:
    sets = candidate_sets(pairs)
    model, objective = crossencoder_objective(sets, golden)
    assert objective.mentions == int((sets.gold_rank >= 0).sum())
    with torch.no_grad():
        assert torch.isfinite(objective.loss(model, np.arange(objective.mentions)))


def test_training_step_takes_gold_and_candidates_sampled_each_epoch(pairs: GoldPairs, golden: Path) -> None:
    sets = candidate_sets(pairs, top_k=12)
    model, objective = crossencoder_objective(sets, golden, train_candidates=4)
    rows, chosen = sets.retrieved[:20], []
    for epoch in (0, 1, 0):
        objective.begin_epoch(model, epoch, resumed=True, after_batch=lambda: None)
        chosen.append(objective._chosen(rows))
    assert (chosen[0].sum(1) == 4).all()
    assert chosen[0][np.arange(20), sets.gold_rank[rows]].all()
    np.testing.assert_array_equal(chosen[0], chosen[2])
    assert (chosen[0] != chosen[1]).any()
    with torch.no_grad():
        few = objective.loss(model, np.arange(20)).item()
        everything = crossencoder_objective(sets, golden)[1].loss(model, np.arange(20)).item()
    assert few < everything


def test_fewer_train_mentions_are_among_more_and_all_have_their_gold(pairs: GoldPairs, golden: Path) -> None:
    sets = candidate_sets(pairs, top_k=4)

    def drawn(most: int | None) -> set[int]:
        _, objective = crossencoder_objective(sets, golden, max_train_mentions=most)
        assert objective.mentions == len(objective._trainable)
        return set(objective._trainable.tolist())

    everything = set(sets.retrieved.tolist())
    assert len(everything) < len(sets.mentions)
    assert drawn(5) < drawn(9) < everything
    assert (len(drawn(5)), len(drawn(9))) == (5, 9)
    assert drawn(None) == drawn(10_000) == everything


def test_missing_candidate_gets_no_probability(pairs: GoldPairs, golden: Path) -> None:
    full = candidate_sets(pairs, top_k=2)
    holes = np.full((len(full.mentions), 1), NO_CANDIDATE, dtype=np.int32)
    padded = replace(full, candidates=np.concatenate([full.candidates, holes], axis=1))
    model, with_holes = crossencoder_objective(padded, golden)
    _, without = crossencoder_objective(full, golden)
    with torch.no_grad():
        losses = [objective.loss(model, np.arange(5)).item() for objective in (with_holes, without)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_validation_reports_accuracy_of_retrieved_and_of_all(pairs: GoldPairs, golden: Path) -> None:
    sets = candidate_sets(pairs)
    model, objective = crossencoder_objective(sets, golden)
    with torch.no_grad():
        figures = objective.validate(model, lambda: None)
    retrieved = len(sets.retrieved)
    correct = round(figures["valid_accuracy"] * retrieved)
    assert figures["valid_unnormalized_accuracy"] == pytest.approx(correct / len(sets.mentions))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["biencoder", "crossencoder"])
def test_validation_refuses_scores_that_are_not_numbers(
    pairs: GoldPairs, golden: Path, kind: str, number: float, fault: Fault
) -> None:
    """``argmax`` of a row of NaN is its first column: the accuracy would be that of the retrieval."""
    fault("training: scores that are not numbers")
    made: dict[str, tuple[torch.nn.Module, BiencoderObjective | CrossencoderObjective]] = {
        "biencoder": biencoder_objective(pairs, golden, masked=True),
        "crossencoder": crossencoder_objective(candidate_sets(pairs), golden),
    }
    model, objective = made[kind]
    for parameter in model.parameters():
        parameter.data.fill_(number)
    with torch.no_grad(), pytest.raises(DataError, match=r"scores in validation are not finite .* lower learning_rate"):
        objective.validate(model, lambda: None)
