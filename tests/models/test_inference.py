"""Models that are ready for inference compute in their precision, between fp32 inputs and fp32 scores."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tests.models.families import ACCEPTED
from zeshel_tasks.compute.device import build_accelerator
from zeshel_tasks.evaluation.encoding import encode_rows
from zeshel_tasks.models.biencoder import new_biencoder
from zeshel_tasks.models.crossencoder import new_crossencoder, pair_batch
from zeshel_tasks.models.inference import ready_for_inference
from zeshel_tasks.recipe import build_recipe

ROWS = np.random.default_rng(0).integers(10, 2900, (16, 24)).astype(np.int32)
ROWS[::2, 12:] = 0
ROWS[:, 5], ROWS[:, 8] = 1, 2  # [unused0] and [unused1]


@pytest.fixture(autouse=True)
def _fp32_afterwards() -> Iterator[None]:
    """The accelerators of one process share their state."""
    yield
    build_accelerator(build_recipe("smoke").eval_biencoder)


def accelerator_in(precision: str) -> Accelerator:
    return build_accelerator(build_recipe("smoke", {"precision": precision}).eval_biencoder)


@pytest.mark.parametrize("pooling", ["cls", "mean", "span_and_mean"])
def test_bf16_weights_encode_without_autocast(golden: Path, pooling: str) -> None:
    torch.manual_seed(0)
    config = build_recipe("smoke", {"train_biencoder.pooling": pooling}).train_biencoder
    encoder = new_biencoder(golden / "bert", config)[0].eval().context_encoder
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


@pytest.mark.parametrize("model_type", ["bert", "ernie"])
def test_scores_of_bf16_weights_are_as_distinct_as_in_fp32(model_type: str, tmp_path: Path) -> None:
    """Only BERT has a forward pass of ours; the others call their pooler themselves, too."""
    ACCEPTED[model_type](tmp_path / "model")
    torch.manual_seed(0)
    lengths = {"max_context_length": 24, "max_cand_length": 24, "max_seq_length": 48}
    model, _ = new_crossencoder(tmp_path / "model", build_recipe("smoke", lengths).train_crossencoder)
    rows = ROWS % 100 + 1
    pairs = pair_batch(np.repeat(rows[:1], 16, axis=0), rows, 48, 0, torch.device("cpu"))
    in_bf16 = accelerator_in("bf16")
    ready_for_inference(model, in_bf16)
    with torch.inference_mode(), in_bf16.autocast():
        scores = model(pairs)
    assert scores.dtype == torch.float32
    assert len(scores.unique()) == 16
    encoder = model.encoder
    assert encoder.bert_model.encoder.layer[0].output.dense.weight.dtype == torch.bfloat16
    assert encoder.bert_model.pooler.dense.weight.dtype == torch.float32
    assert encoder.additional_linear.weight.dtype == torch.float32


def test_pooler_and_linear_layer_train_in_fp32_under_autocast(golden: Path) -> None:
    model, _ = new_crossencoder(golden / "bert", build_recipe("smoke").train_crossencoder)
    head = model.encoder.bert_model.pooler, model.encoder.additional_linear
    dtypes: list[torch.dtype] = []
    for layer in head:
        layer.register_forward_hook(lambda _module, _inputs, output: dtypes.append(output.dtype))
    with accelerator_in("bf16").autocast():
        model(pair_batch(ROWS, ROWS, 48, 0, torch.device("cpu")))
    assert dtypes == [torch.float32] * 2


@pytest.mark.parametrize(("precision", "expected"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_layer_norms_put_out_the_precision_of_the_matrix_products(
    golden: Path, precision: str, expected: torch.dtype
) -> None:
    model, _ = new_crossencoder(golden / "bert", build_recipe("smoke").train_crossencoder)
    inputs: set[torch.dtype] = set()
    for layer in model.encoder.bert_model.encoder.layer:
        layer.register_forward_pre_hook(lambda _module, arguments: inputs.add(arguments[0].dtype))
    with accelerator_in(precision).autocast():
        model(pair_batch(ROWS, ROWS, 48, 0, torch.device("cpu")))
    assert inputs == {expected}


def test_fp32_weights_stay(golden: Path) -> None:
    model, _ = new_biencoder(golden / "bert", build_recipe("smoke").train_biencoder)
    ready_for_inference(model, accelerator_in("fp32"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training
