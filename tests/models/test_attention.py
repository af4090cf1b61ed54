from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zeshel_tasks.models import attention
from zeshel_tasks.models.bert import load_bert

SEQUENCES, LONGEST = 2, attention._LONGEST_IN_FP32


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The types in which attentions are computed."""
    dtypes: list[torch.dtype] = []
    plain = F.scaled_dot_product_attention

    def noted(query: torch.Tensor, *inputs: Any, **options: Any) -> torch.Tensor:
        dtypes.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype)
        return plain(query, *inputs, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", noted)
    return dtypes


def ids(length: int) -> torch.Tensor:
    return torch.randint(10, 40, (SEQUENCES, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("train", "length", "expected"),
    [(True, 40, torch.float32), (False, 40, torch.bfloat16), (True, LONGEST + 8, torch.bfloat16)],
)
def test_bf16_attention_with_gradients_is_computed_in_fp32_unless_it_is_long(
    golden: Path, computed: list[torch.dtype], train: bool, length: int, expected: torch.dtype
) -> None:
    bert = load_bert(golden / "bert")
    bert.embeddings.position_embeddings = nn.Embedding(length, bert.config.hidden_size)  # type: ignore[union-attr, arg-type]
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(train):
        positions = torch.arange(length)[None]
        bert(input_ids=ids(length), position_ids=positions, token_type_ids=torch.zeros_like(ids(length)))
    assert computed == [expected] * int(bert.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]


def test_its_gradients_are_those_of_the_attention_in_fp32() -> None:
    module = nn.Module()
    module.is_causal = False  # type: ignore[assignment]
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, 16, 8, generator=random).bfloat16() for _ in range(3)]
    mask = torch.ones(2, 1, 1, 16, dtype=torch.bool)
    mask[1, ..., 9:] = False
    half = [tensor.clone().requires_grad_() for tensor in inputs]
    full = [tensor.float().requires_grad_() for tensor in inputs]
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = attention._attention(module, *half, mask)
    assert found.dtype is torch.bfloat16
    expected = F.scaled_dot_product_attention(*full, attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(found, expected.bfloat16(), atol=0, rtol=0)
    weights = torch.randn(expected.shape, generator=random).bfloat16()
    for output, factors in ((found, weights), (expected, weights.float())):
        (output * factors).sum().backward()
    for ours, theirs in zip(half, full, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad.bfloat16(), atol=0, rtol=0)
