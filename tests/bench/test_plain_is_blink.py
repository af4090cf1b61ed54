"""The comparator computes what BLINK itself computed (``golden/README.md``)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.plain.biencoder import PlainBiencoder, biencoder_loss, encode_candidates
from bench.plain.convert import convert
from bench.plain.crossencoder import PlainCrossencoder, join_pairs, score_pairs
from bench.plain.retrieval import retrieve
from bench.plain.tokenize import PlainPairs, python_tokenizer, tokenize_split
from tests.bench.blinks_weights import load_blinks
from tests.support.near_ties import assert_same_ranking

CPU = torch.device("cpu")
FILES = {"train": "train.json", "valid": "val.json", "test": "test.json"}


@pytest.fixture
def summary(golden: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((golden / "summary.json").read_text())
    return found


def tokenized(golden: Path, split: str) -> PlainPairs:
    return tokenize_split(golden / "blink_format" / f"{split}.jsonl", python_tokenizer(golden / "bert"), 64, 64)


def blinks_biencoder(golden: Path) -> PlainBiencoder:
    model = PlainBiencoder(golden / "bert").eval()
    load_blinks(model, golden / "bi" / "pytorch_model.bin")
    return model


@pytest.mark.parametrize("split", FILES)
def test_comparator_converts_like_blink(golden: Path, split: str, tmp_path: Path) -> None:
    convert(golden / "raw", FILES[split], tmp_path / "converted.jsonl")
    assert (tmp_path / "converted.jsonl").read_bytes() == (golden / "blink_format" / f"{split}.jsonl").read_bytes()


def test_comparator_encodes_candidates_like_blink(golden: Path) -> None:
    model = blinks_biencoder(golden)
    pools, vectors = (torch.load(golden / f"cand_{what}_test.pt", weights_only=True) for what in ("pool", "enc"))
    for world, pool in pools.items():
        torch.testing.assert_close(encode_candidates(model, pool, CPU), vectors[world], atol=1e-5, rtol=0)


def test_comparator_retrieves_like_blink(golden: Path, summary: dict[str, Any]) -> None:
    model, pairs = blinks_biencoder(golden), tokenized(golden, "test")
    pools, vectors = (torch.load(golden / f"cand_{what}_test.pt", weights_only=True) for what in ("pool", "enc"))
    blinks = torch.load(golden / "top16_candidates" / "test.t7", weights_only=True)
    for world, pool in pools.items():
        rows = [row for row, name in enumerate(pairs.worlds) if name == summary["worlds"][world]]
        found = retrieve(model, pairs.contexts[rows], pairs.labels[rows], pool, vectors[world], summary["top_k"], CPU)
        of_world = blinks["worlds"] == world
        torch.testing.assert_close(found.contexts, blinks["context_vecs"][of_world], atol=0, rtol=0)
        ranked, wanted = (positions_in(pool, sets) for sets in (found.candidates, blinks["candidate_vecs"][of_world]))
        with torch.no_grad():
            scores = model.contexts(found.contexts) @ vectors[world].T
        assert_same_ranking(ranked.numpy(), wanted.numpy(), scores.numpy())
        golds, blinks_golds = found.labels, blinks["labels"][of_world]
        assert torch.equal(ranked.gather(1, golds[:, None]), wanted.gather(1, blinks_golds[:, None]))


def positions_in(pool: torch.Tensor, sets: torch.Tensor) -> torch.Tensor:
    """Returns the position in the pool of each candidate's tokens: int64 [mentions, top_k]."""
    return (sets[:, :, None] == pool).all(-1).int().argmax(-1)


def test_comparator_has_first_biencoder_loss_of_blink(golden: Path, summary: dict[str, Any]) -> None:
    pairs = tokenized(golden, "train")
    loss = biencoder_loss(PlainBiencoder(golden / "bert").train(), pairs.contexts[:16], pairs.golds[:16])
    assert loss.item() == pytest.approx(summary["losses"]["biencoder"][0], abs=1e-4)


def test_comparator_crossencoder_scores_like_blink(golden: Path) -> None:
    model = PlainCrossencoder(golden / "bert").eval()
    load_blinks(model, golden / "cross" / "pytorch_model.bin")
    sets = torch.load(golden / "top16_candidates" / "valid.t7", weights_only=True)
    pairs = join_pairs(sets["context_vecs"], sets["candidate_vecs"], 128)
    blinks = torch.load(golden / "cross_valid_logits.pt", weights_only=True)["logits"]
    torch.testing.assert_close(score_pairs(model, pairs, 64, 2, CPU), blinks, atol=1e-4, rtol=0)
