"""Compares the results of different precisions, devices and implementations, with padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from bench import ours
from bench.gpu.setup import Setup
from bench.gpu.tables import PAD
from zeshel_tasks.evaluation.encoding import encode_rows
from zeshel_tasks.evaluation.rerank import candidate_scores
from zeshel_tasks.models.batches import token_batch
from zeshel_tasks.models.biencoder import Biencoder, new_biencoder
from zeshel_tasks.models.crossencoder import Crossencoder, new_crossencoder
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.models.inference import ready_for_inference

_SEQUENCES, _MENTIONS, _CANDIDATES = 8, 2, 4
_CPU = torch.device("cpu")
# Measured with 24 layers of 1,024 over up to 128 tokens on a CPU: bf16 vectors differ from fp32 by 0.15 with autocast
# and by 0.16 with bf16 weights, where 1 - cosine is 3e-4. Two implementations in fp32 differ by 7e-6. If attention
# includes padding, the difference is at least 0.8.
_BF16_COSINE, _FP32_COSINE = 5e-3, 1e-5
# A score is a single number, so the largest difference is larger: 0.58 for bf16, and about 3 for unrelated scores.
_BF16_VECTORS, _BF16_SCORES, _FP32 = 0.4, 1.2, 1e-3


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        what: description of the comparison.
        found: the difference; NaN exceeds every tolerance.
        tolerance: largest correct difference.
    """

    what: str
    found: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """True if the difference is a number within the tolerance."""
        return self.found <= self.tolerance

    def line(self) -> str:
        """``ok  vectors, ...: 1.2e-06 (at most 1e-05)``."""
        return f"{'ok' if self.ok else 'WRONG'}  {self.what}: {self.found:.3g} (at most {self.tolerance:g})"


def checks(setup: Setup) -> Iterator[Check]:
    """Yield all comparisons."""
    # The accelerators of one process share their state, so only one precision is used at a time.
    model, _ = new_biencoder(setup.model, setup.recipe.train_biencoder)
    yield from _vectors(setup, model.eval())
    cross, _ = new_crossencoder(setup.model, setup.recipe.train_crossencoder)
    yield from _scores(setup, cross.eval())
    yield from _steps(setup)


def _vectors(setup: Setup, model: Biencoder) -> Iterator[Check]:
    rows, encoder = setup.tables(shortest=setup.length // 2).tokens(_SEQUENCES), model.context_encoder
    on_cpu = _fp32_vectors(encoder, rows, _CPU)
    encoder.to(setup.device)
    fp32 = _fp32_vectors(encoder, rows, setup.device)
    bf16 = encode_rows(encoder, rows, PAD, ours.accelerator_of(setup.recipe)).cpu()
    theirs = _transformers_vectors(encoder.bert_model, rows, setup.device)
    accelerator = ours.accelerator_of(setup.recipe)
    all_bf16 = encode_rows(ready_for_inference(encoder, accelerator), rows, PAD, accelerator).cpu()
    device = setup.device.type
    yield Check(f"vectors, {device} bf16 and fp32, 1 - lowest cosine", _angle(bf16, fp32), _BF16_COSINE)
    yield Check(f"vectors, {device} bf16 and fp32, apart", apart(bf16, fp32), _BF16_VECTORS)
    yield Check(f"vectors, {device} bf16 weights and fp32, apart", apart(all_bf16, fp32), _BF16_VECTORS)
    yield Check(f"vectors, {device} fp32 and CPU fp32, 1 - lowest cosine", _angle(fp32, on_cpu), _FP32_COSINE)
    yield Check(f"vectors, {device} fp32 and CPU fp32, apart", apart(fp32, on_cpu), _FP32)
    yield Check("vectors, the first token alone and transformers' forward, apart", apart(fp32, theirs), _FP32)


def _scores(setup: Setup, model: Crossencoder) -> Iterator[Check]:
    sets = setup.tables(shortest=setup.length // 2).sets(_MENTIONS, _CANDIDATES)

    def scores(device: torch.device) -> torch.Tensor:
        rows, length = np.arange(_MENTIONS), setup.recipe.train_crossencoder.max_seq_length
        with torch.inference_mode():
            found = candidate_scores(model, sets, rows, length, PAD, device)
        return found.float().cpu().reshape(-1, 1)

    on_cpu = scores(_CPU)
    model.to(setup.device)
    fp32 = scores(setup.device)
    with ours.accelerator_of(setup.recipe).autocast():
        bf16 = scores(setup.device)
    device = setup.device.type
    yield Check(f"scores, {device} bf16 and fp32, apart", apart(bf16, fp32), _BF16_SCORES)
    yield Check(f"scores, {device} fp32 and CPU fp32, apart", apart(fp32, on_cpu), _FP32)


def _steps(setup: Setup) -> Iterator[Check]:
    """Compare the losses of two steps. The second depends on the gradient of the first."""
    small = setup.with_settings(
        **{"train_biencoder.train_batch_size": _SEQUENCES, "train_crossencoder.train_batch_size": 1}
    )
    recipe, tokenizer, tables = small.recipe, ours.tokenizer_of(setup.model), setup.tables(shortest=setup.length // 2)
    accelerator = ours.accelerator_of(recipe)
    model, settings = new_biencoder(setup.model, recipe.train_biencoder)
    objective = ours.biencoder_objective(tables.pairs(2 * _SEQUENCES), settings, tokenizer, accelerator, recipe)
    losses = ours.Training(model, objective, recipe.train_biencoder, accelerator).run(2 * _SEQUENCES)
    yield _finite("bi-encoder", losses)
    accelerator = ours.accelerator_of(recipe)
    cross, cross_settings = new_crossencoder(setup.model, recipe.train_crossencoder)
    sets = tables.sets(_MENTIONS, _CANDIDATES)
    picking = ours.crossencoder_objective(sets, cross_settings, tokenizer, accelerator, recipe)
    yield _finite("cross-encoder", ours.Training(cross, picking, recipe.train_crossencoder, accelerator).run(_MENTIONS))


def _finite(name: str, losses: list[torch.Tensor]) -> Check:
    broken = sum(not bool(loss.isfinite()) for loss in losses)
    values = ", ".join(f"{loss.item():.4f}" for loss in losses)
    return Check(f"losses of the {name}'s first steps ({values}), how many are not finite", broken, 0)


def _fp32_vectors(encoder: Encoder, rows: Any, device: torch.device) -> torch.Tensor:
    with torch.inference_mode():
        vectors: torch.Tensor = encoder(token_batch(rows, PAD, device))
    return vectors.cpu()


def _transformers_vectors(bert: nn.Module, rows: Any, device: torch.device) -> torch.Tensor:
    ids = torch.from_numpy(rows).long().to(device)
    with torch.inference_mode():
        output: torch.Tensor = bert(input_ids=ids, attention_mask=(ids != PAD).long()).last_hidden_state
    return output[:, 0].cpu()


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest distance between the same rows of ``one`` and ``other``, relative to the spread of the rows.

    The spread is the mean distance of the rows of ``other`` from their mean. The cosine of any two rows is near 1.

    Args:
        one: float [rows, dimension].
        other: float [rows, dimension].
    """
    one, other = one.double(), other.double()
    spread = (other - other.mean(0)).norm(dim=1).mean()
    return float((one - other).norm(dim=1).max() / spread)


def _angle(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((1 - torch.cosine_similarity(one.double(), other.double())).max())
