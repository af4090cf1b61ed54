"""The comparator's work in each stage. Each function loads models and data, and returns the work to time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from bench import ours
from bench.plain.biencoder import PlainBiencoder, encode_candidates
from bench.plain.biencoder import train_biencoder as train_plain_biencoder
from bench.plain.convert import convert
from bench.plain.crossencoder import PlainCrossencoder, join_pairs, score_pairs
from bench.plain.crossencoder import train_crossencoder as train_plain_crossencoder
from bench.plain.optimizer import plain_optimizer
from bench.plain.retrieval import retrieve as retrieve_plainly
from bench.plain.tokenize import python_tokenizer, tokenize_split
from bench.stages.inputs import MIXED_MENTIONS, RETRIEVED_MENTIONS, Inputs, Run

EVAL_BATCH_SIZE = 2  # of the cross-encoder, as in BLINK's README; for retrieval it is 1


def train_biencoder(inputs: Inputs) -> Run:
    """Train on the first mentions of ``mixed``."""
    config, device, pairs = inputs.recipe.train_biencoder, _device(inputs), inputs.pairs("mixed", MIXED_MENTIONS)
    contexts, golds = _long(pairs.mentions.contexts), _long(pairs.golds[pairs.gold_row])
    model = _biencoder(inputs, device).train()
    optimizer = plain_optimizer(model, config.type_optimization, config.peak_learning_rate)
    return lambda count: train_plain_biencoder(
        model, optimizer, contexts[:count], golds[:count], config.train_batch_size, device
    )


def encode(inputs: Inputs) -> Run:
    """Encode the first of the drawn entities."""
    device, pool = _device(inputs), _long(inputs.encoded())
    model = _biencoder(inputs, device).eval()
    return lambda count: encode_candidates(model, pool[:count], device)


def retrieve(inputs: Inputs) -> Run:
    """Retrieve the candidates of the first mentions of ``world``."""
    device, mentions = _device(inputs), inputs.pairs("world", RETRIEVED_MENTIONS).mentions
    contexts, labels, pool = (_long(t) for t in (mentions.contexts, mentions.label, inputs.largest_world()))
    vectors = torch.from_numpy(np.load(inputs.vectors()))
    top_k = min(inputs.recipe.eval_biencoder.top_k, len(vectors))
    model = _biencoder(inputs, device).eval()
    return lambda count: retrieve_plainly(model, contexts[:count], labels, pool, vectors, top_k, device)


def train_crossencoder(inputs: Inputs) -> Run:
    """Train on the first mentions of ``mixed`` and their candidates."""
    config, device = inputs.recipe.train_crossencoder, _device(inputs)
    contexts, candidates, ranks = _plain_sets(inputs)
    model = _crossencoder(inputs, device).train()
    optimizer = plain_optimizer(model, config.type_optimization, config.peak_learning_rate)

    def run(count: int) -> object:
        pairs = join_pairs(contexts[:count], candidates[:count], config.max_seq_length)
        length, size = contexts.shape[1], config.train_batch_size
        return train_plain_crossencoder(model, optimizer, pairs, ranks[:count], length, size, device)

    return run


def score(inputs: Inputs) -> Run:
    """Score the candidates of the first mentions of ``mixed``."""
    config, device = inputs.recipe.train_crossencoder, _device(inputs)
    contexts, candidates, _ = _plain_sets(inputs)
    model = _crossencoder(inputs, device).eval()

    def run(count: int) -> object:
        pairs = join_pairs(contexts[:count], candidates[:count], config.max_seq_length)
        return score_pairs(model, pairs, contexts.shape[1], EVAL_BATCH_SIZE, device)

    return run


def tokenize(inputs: Inputs) -> Run:
    """Convert and tokenize the first mentions of ``world``."""
    config, tokenizer = inputs.recipe.train_biencoder, python_tokenizer(inputs.model)

    def run(count: int) -> object:
        jsonl = ours.emptied(inputs.scratch / "plain_converted") / "train.jsonl"
        convert(inputs.smaller_world(count), "train.json", jsonl)
        return tokenize_split(jsonl, tokenizer, config.max_context_length, config.max_cand_length)

    return run


def _biencoder(inputs: Inputs, device: torch.device) -> PlainBiencoder:
    model = PlainBiencoder(inputs.model)
    model.load_state_dict(torch.load(inputs.start_weights("biencoder"), weights_only=True))
    return model.to(device)


def _crossencoder(inputs: Inputs, device: torch.device) -> PlainCrossencoder:
    model = PlainCrossencoder(inputs.model)
    model.load_state_dict(torch.load(inputs.start_weights("crossencoder"), weights_only=True))
    return model.to(device)


def _device(inputs: Inputs) -> torch.device:
    return torch.device(ours.accelerator_of(inputs.recipe).device)


def _plain_sets(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sets = inputs.sets()
    rows, columns = np.ogrid[: len(sets.mentions), : sets.candidates.shape[1]]
    return _long(sets.mentions.contexts), _long(sets.candidate_tokens(rows, columns)), _long(sets.gold_rank)


def _long(table: npt.NDArray[np.integer]) -> torch.Tensor:
    """Return a token table as in BLINK: int64, in memory."""
    return torch.from_numpy(np.array(table)).long()
