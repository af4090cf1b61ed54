"""Models that are ready for inference compute in their precision, between fp32 inputs and fp32 scores."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from zeshel_tasks.compute.device import build_accelerator
from zeshel_tasks.evaluation.encoding import encode_rows
from zeshel_tasks.models.biencoder import new_biencoder
from zeshel_tasks.models.crossencoder import new_crossencoder, pair_batch
from zeshel_tasks.models.inference import ready_for_inference
from zeshel_tasks.recipe import build_recipe

ROWS = np.random.default_rng(0).integers(10, 2900, (16, 24)).astype(np.int32)
ROWS[::2, 12:] = 0


@pytest.fixture(autouse=True)
def _fp32_afterwards() -> Iterator[None]:
    """The accelerators of one process share their state."""
    yield
    build_accelerator(build_recipe("smoke").eval_biencoder)


def accelerator_in(precision: str) -> Accelerator:
    return build_accelerator(build_recipe("smoke", {"precision": precision}).eval_biencoder)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_bf16_weights_encode_without_autocast(golden: Path, pooling: str) -> None:
    torch.manual_seed(0)
    config = build_recipe("smoke", {"train_biencoder.pooling": pooling}).train_biencoder
    encoder = new_biencoder(golden / "bert", config)[0].eval().cand_encoder
    exact = encode_rows(encoder, ROWS, 0, accelerator_in("fp32"))
    in_bf16 = accelerator_in("bf16")
    ready_for_inference(encoder, in_bf16)
    dtypes: set[torch.dtype] = set()
    for module in encoder.modules():
        if isinstance(module, torch.nn.LayerNorm):  # its output is fp32 under autocast
            module.register_forward_hook(lambda _module, _inputs, output: dtypes.add(output.dtype))
    vectors = encode_rows(encoder, ROWS, 0, in_bf16)
    assert vectors.dtype == torch.float32
    assert torch.cosine_similarity(vectors, exact).min() > 0.999
    assert dtypes == {torch.bfloat16}


def test_scores_of_bf16_weights_are_as_distinct_as_in_fp32(golden: Path) -> None:
    torch.manual_seed(0)
    model, _ = new_crossencoder(golden / "bert", build_recipe("smoke").train_crossencoder)
    pairs = pair_batch(np.repeat(ROWS[:1], 16, axis=0), ROWS, 48, 0, torch.device("cpu"))
    in_bf16 = accelerator_in("bf16")
    ready_for_inference(model, in_bf16)
    with torch.inference_mode(), in_bf16.autocast():
        scores = model(pairs)
    assert scores.dtype == torch.float32
    assert len(scores.unique()) == 16
    assert model.encoder.additional_linear.weight.dtype == torch.float32


def test_fp32_weights_stay(golden: Path) -> None:
    model, _ = new_biencoder(golden / "bert", build_recipe("smoke").train_biencoder)
    ready_for_inference(model, accelerator_in("fp32"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training
