"""Our work in each stage. Each function loads models and data, and returns the work to time."""

from __future__ import annotations

from bench import ours
from bench.stages.inputs import MIXED_MENTIONS, RETRIEVED_MENTIONS, Inputs, Run
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.models.inference import ready_for_inference


def train_biencoder(inputs: Inputs) -> Run:
    """Train on the first mentions of ``mixed``."""
    accelerator, pairs = ours.accelerator_of(inputs.recipe), inputs.pairs("mixed", MIXED_MENTIONS)
    model, settings = ours.start_biencoder(inputs.model, inputs.recipe, inputs.start_weights("biencoder"))
    tokenizer = ours.tokenizer_of(inputs.model)
    objective = ours.biencoder_objective(pairs, settings, tokenizer, accelerator, inputs.recipe)
    return ours.Training(model, objective, inputs.recipe.train_biencoder, accelerator).run


def encode(inputs: Inputs) -> Run:
    """Encode the first of the drawn entities."""
    evaluation, table = _evaluation(inputs), inputs.encoded()
    model, _ = ours.start_biencoder(inputs.model, inputs.recipe, inputs.start_weights("biencoder"))
    ready_for_inference(model, evaluation.accelerator)
    return lambda count: evaluation.encode(model, table[:count], inputs.scratch / "our_vectors.npy")


def retrieve(inputs: Inputs) -> Run:
    """Retrieve the candidates of the first mentions of ``world``."""
    evaluation, mentions = _evaluation(inputs), inputs.pairs("world", RETRIEVED_MENTIONS).mentions
    model, _ = ours.start_biencoder(inputs.model, inputs.recipe, inputs.start_weights("biencoder"))
    ready_for_inference(model, evaluation.accelerator)
    vectors = VectorFile(inputs.vectors())
    return lambda count: evaluation.retrieve(model, mentions.contexts[:count], vectors, inputs.scratch)


def train_crossencoder(inputs: Inputs) -> Run:
    """Train on the first mentions of ``mixed`` and their candidates."""
    accelerator, sets = ours.accelerator_of(inputs.recipe), inputs.sets()
    model, settings = ours.start_crossencoder(inputs.model, inputs.recipe, inputs.start_weights("crossencoder"))
    tokenizer = ours.tokenizer_of(inputs.model)
    objective = ours.crossencoder_objective(sets, settings, tokenizer, accelerator, inputs.recipe)
    return ours.Training(model, objective, inputs.recipe.train_crossencoder, accelerator).run


def score(inputs: Inputs) -> Run:
    """Score the candidates of the first mentions of ``mixed``."""
    evaluation, sets = _evaluation(inputs), inputs.sets()
    model, _ = ours.start_crossencoder(inputs.model, inputs.recipe, inputs.start_weights("crossencoder"))
    ready_for_inference(model, evaluation.accelerator)
    return lambda count: evaluation.scores(model, sets, count)


def tokenize(inputs: Inputs) -> Run:
    """Convert and tokenize the first mentions of ``world``."""
    tokens = inputs.tokens

    def run(count: int) -> object:
        folder = ours.emptied(inputs.scratch / "our_converted")
        return ours.convert_and_tokenize(inputs.smaller_world(count), inputs.recipe, tokens, folder)

    return run


def _evaluation(inputs: Inputs) -> ours.Evaluation:
    return ours.Evaluation(inputs.recipe, inputs.tokens.pad, ours.accelerator_of(inputs.recipe))
