"""A batch in parts that share their negatives has the gradient of the whole batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.data.search_set import SearchSet
from zeshel_tasks.models.biencoder import new_biencoder
from zeshel_tasks.models.tokenizer import load_tokenizer
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.training.biencoder_objective import BiencoderObjective


def gradients(pairs: GoldPairs, bert: Path, parts: int, **settings: object) -> tuple[float, dict[str, torch.Tensor]]:
    recipe = build_recipe("smoke", {f"train_biencoder.{name}": value for name, value in settings.items()})
    model, known = new_biencoder(bert, recipe.train_biencoder)
    tokenizer = load_tokenizer(bert, lowercase=True)
    objective = BiencoderObjective(
        pairs, SearchSet(pairs.mentions, {}), known, tokenizer, Accelerator(cpu=True), recipe.train_biencoder
    )
    torch.manual_seed(1)
    loss = 0.0
    for part in objective.parts(model.train(), np.arange(12), parts):
        part.root.backward()
        loss += part.loss.item()
    return loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_cached_parts_match_loss_and_gradient_of_whole_batch(pair_tables: Path, golden: Path, similarity: str) -> None:
    pairs = GoldPairs.load(pair_tables / "train")
    loss, expected = gradients(pairs, golden / "bert", 1, similarity=similarity)
    cached_loss, cached = gradients(pairs, golden / "bert", 4, gradient_cache=True, similarity=similarity)
    assert cached_loss == pytest.approx(loss, abs=1e-5)
    assert cached.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(cached[name], gradient, atol=2e-5, rtol=1e-3, msg=name)
    parts_loss, _ = gradients(pairs, golden / "bert", 4, similarity=similarity)
    assert parts_loss < loss - 0.1, "without the cache a mention has the negatives of its part alone"


def test_each_part_is_encoded_again_with_same_dropout(
    pair_tables: Path, golden_with_dropout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    encode = BiencoderObjective._encode

    def kept(*arguments: object) -> tuple[torch.Tensor, ...]:
        vectors = encode(*arguments)
        seen.append(vectors[0].detach())
        return vectors

    monkeypatch.setattr(BiencoderObjective, "_encode", kept)
    gradients(GoldPairs.load(pair_tables / "train"), golden_with_dropout, 3, gradient_cache=True)
    first, again = seen[:3], seen[3:]
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
