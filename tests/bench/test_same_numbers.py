"""The fast code computes the comparator's numbers in fp32, without dropout and from the same weights."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from accelerate import Accelerator

from bench import ours
from bench.plain.biencoder import PlainBiencoder, biencoder_loss, encode_candidates, train_biencoder
from bench.plain.convert import convert
from bench.plain.crossencoder import (
    PlainCrossencoder,
    crossencoder_loss,
    join_pairs,
    score_pairs,
)
from bench.plain.optimizer import plain_optimizer
from bench.plain.retrieval import search
from bench.plain.tokenize import python_tokenizer, tokenize_split
from bench.stages.inputs import Inputs
from tests.support.near_ties import assert_same_ranking
from zeshel_tasks.config.encoder import TypeOptimization
from zeshel_tasks.models.biencoder import Biencoder
from zeshel_tasks.models.crossencoder import Crossencoder
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.training.optimizer import choose_trained

CPU = torch.device("cpu")
MENTIONS = 40
BATCH = np.arange(12)
TRAINED = pytest.mark.parametrize("trained", ["all", "all_encoder_layers"])


@pytest.fixture
def evaluation(inputs: Inputs) -> ours.Evaluation:
    return ours.Evaluation(inputs.recipe, inputs.tokens.pad, Accelerator(cpu=True))


def as_blinks(table: npt.NDArray[np.int32]) -> torch.Tensor:
    return torch.from_numpy(np.array(table)).long()


def assert_same_gradients(ours_model: torch.nn.Module, plain: torch.nn.Module) -> None:
    """Compares the gradients of all trained parameters. Some (the keys' biases) are pure rounding errors."""
    theirs = {name: weight.grad for name, weight in plain.named_parameters() if weight.grad is not None}
    gradients = {name: weight.grad for name, weight in ours_model.named_parameters() if weight.requires_grad}
    assert len(gradients) > 30
    whole = torch.cat([theirs[name].flatten() for name in gradients]).norm()
    assert whole > 0
    for name, gradient in gradients.items():
        assert gradient is not None, name
        assert (gradient - theirs[name]).norm() <= 1e-4 * theirs[name].norm() + 1e-5 * whole, name


def test_token_tables_match_comparator(inputs: Inputs, tmp_path: Path) -> None:
    data = inputs.data_of("mixed", 100)
    convert(data, "train.json", tmp_path / "plain.jsonl")
    plain = tokenize_split(tmp_path / "plain.jsonl", python_tokenizer(inputs.model), 64, 64)
    pairs = ours.convert_and_tokenize(data, inputs.recipe, inputs.tokens, tmp_path / "ours")
    assert (tmp_path / "ours" / "train.jsonl").read_bytes() == (tmp_path / "plain.jsonl").read_bytes()
    np.testing.assert_array_equal(pairs.mentions.contexts, plain.contexts.numpy())
    np.testing.assert_array_equal(pairs.golds[pairs.gold_row], plain.golds.numpy())
    np.testing.assert_array_equal(pairs.mentions.label, plain.labels.numpy())
    assert [pairs.mentions.worlds[world] for world in pairs.mentions.world] == plain.worlds


def test_candidate_vectors_match_comparator(
    inputs: Inputs, evaluation: ours.Evaluation, biencoders: tuple[PlainBiencoder, Biencoder], tmp_path: Path
) -> None:
    plain, model = biencoders
    table = inputs.encoded()[:50]
    evaluation.encode(model, table, tmp_path / "vectors.npy")
    vectors = torch.from_numpy(np.load(tmp_path / "vectors.npy"))
    torch.testing.assert_close(vectors, encode_candidates(plain, as_blinks(table), CPU), atol=1e-5, rtol=1e-5)


def test_retrieved_candidates_and_scores_match_comparator(
    inputs: Inputs, evaluation: ours.Evaluation, biencoders: tuple[PlainBiencoder, Biencoder], tmp_path: Path
) -> None:
    plain, model = biencoders
    world, contexts = inputs.largest_world(), inputs.pairs("world", MENTIONS).mentions.contexts
    vectors = evaluation.encode(model, world, tmp_path / "vectors.npy")
    candidates, scores = evaluation.retrieve(model, contexts, vectors, tmp_path)
    theirs = torch.from_numpy(np.load(tmp_path / "vectors.npy"))
    for row, context in enumerate(as_blinks(contexts)):
        with torch.no_grad():
            best, positions = search(plain, context[None], theirs, inputs.recipe.eval_biencoder.top_k)
            everything = plain.contexts(context[None]) @ theirs.T
        assert_same_ranking(candidates[[row]], positions.numpy(), everything.numpy())
        np.testing.assert_allclose(scores[row], best[0].numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_bf16_and_float16_recall_is_within_5_points_of_comparator(
    inputs: Inputs, biencoders: tuple[PlainBiencoder, Biencoder], tmp_path: Path, dtype: str
) -> None:
    plain, model = biencoders
    table = inputs.pairs("world", MENTIONS).mentions
    settings = {"precision": "bf16", "device": "cpu", "top_k": 16, "vector_dtype": dtype}
    recipe = build_recipe("blink", settings)
    evaluation = ours.Evaluation(recipe, inputs.tokens.pad, ours.accelerator_of(recipe))
    vectors = evaluation.encode(model, inputs.largest_world(), tmp_path / "vectors.npy")
    candidates, _ = evaluation.retrieve(model, table.contexts, vectors, tmp_path)
    everything = encode_candidates(plain, as_blinks(inputs.largest_world()), CPU)
    with torch.no_grad():
        theirs = [search(plain, context[None], everything, 16)[1][0].numpy() for context in as_blinks(table.contexts)]
    for at in (1, 4, 16):
        ours_found, their_found = (
            np.mean([label in row[:at] for label, row in zip(table.label, rows, strict=True)])
            for rows in (candidates, theirs)
        )
        assert abs(ours_found - their_found) <= 0.05, at


@TRAINED
def test_first_biencoder_loss_and_gradients_match_comparator(
    inputs: Inputs, biencoders: tuple[PlainBiencoder, Biencoder], trained: TypeOptimization
) -> None:
    plain, model = biencoders
    pairs = inputs.pairs("mixed", MENTIONS)
    _, settings = ours.start_biencoder(inputs.model, inputs.recipe, inputs.start_weights("biencoder"))
    tokenizer = ours.tokenizer_of(inputs.model)
    objective = ours.biencoder_objective(pairs, settings, tokenizer, Accelerator(cpu=True), inputs.recipe)
    choose_trained(model, trained)
    loss = objective.loss(model, BATCH)
    loss.backward()
    contexts, golds = pairs.mentions.contexts[BATCH], pairs.golds[pairs.gold_row[BATCH]]
    expected = biencoder_loss(plain, as_blinks(contexts), as_blinks(golds))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradients(model, plain)


@TRAINED
def test_first_crossencoder_loss_and_gradients_match_comparator(
    inputs: Inputs, crossencoders: tuple[PlainCrossencoder, Crossencoder], trained: TypeOptimization
) -> None:
    plain, model = crossencoders
    sets, rows = inputs.sets(), BATCH[:3]
    _, settings = ours.start_crossencoder(inputs.model, inputs.recipe, inputs.start_weights("crossencoder"))
    tokenizer = ours.tokenizer_of(inputs.model)
    objective = ours.crossencoder_objective(sets, settings, tokenizer, Accelerator(cpu=True), inputs.recipe)
    choose_trained(model, trained)
    loss = objective.loss(model, rows)
    loss.backward()
    contexts = as_blinks(sets.mentions.contexts[rows])
    pairs = join_pairs(
        contexts,
        as_blinks(sets.candidate_tokens(rows[:, None], np.arange(sets.candidates.shape[1]))),
        settings.max_seq_length,
    )
    expected = crossencoder_loss(plain, pairs, as_blinks(sets.gold_rank[rows]), contexts.shape[1])
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradients(model, plain)


def test_crossencoder_scores_match_comparator(
    inputs: Inputs, evaluation: ours.Evaluation, crossencoders: tuple[PlainCrossencoder, Crossencoder]
) -> None:
    plain, model = crossencoders
    sets, rows = inputs.sets(), np.arange(5)
    contexts = as_blinks(sets.mentions.contexts[rows])
    pairs = join_pairs(
        contexts,
        as_blinks(sets.candidate_tokens(rows[:, None], np.arange(sets.candidates.shape[1]))),
        inputs.recipe.train_crossencoder.max_seq_length,
    )
    expected = score_pairs(plain, pairs, contexts.shape[1], 2, CPU)
    torch.testing.assert_close(evaluation.scores(model, sets, len(rows)), expected, atol=1e-5, rtol=1e-5)


def test_biencoder_training_losses_match_comparator(
    inputs: Inputs, biencoders: tuple[PlainBiencoder, Biencoder]
) -> None:
    """The optimizers decay and clip differently, but a few steps at this rate do not show it."""
    plain, model = biencoders
    config, pairs = inputs.recipe.train_biencoder, inputs.pairs("mixed", MENTIONS)
    _, settings = ours.start_biencoder(inputs.model, inputs.recipe, inputs.start_weights("biencoder"))
    accelerator, tokenizer = Accelerator(cpu=True), ours.tokenizer_of(inputs.model)
    objective = ours.biencoder_objective(pairs, settings, tokenizer, accelerator, inputs.recipe)
    losses = ours.Training(model, objective, config, accelerator).run(MENTIONS)
    optimizer = plain_optimizer(plain, config.type_optimization, config.learning_rate)
    contexts, golds = as_blinks(pairs.mentions.contexts), as_blinks(pairs.golds[pairs.gold_row])
    expected = train_biencoder(
        plain.train(), optimizer, contexts[:MENTIONS], golds[:MENTIONS], config.train_batch_size, CPU
    )
    assert [loss.item() for loss in losses] == pytest.approx(expected, rel=1e-3)
