"""The vector of a mention comes from its own tokens, wherever they are."""

import numpy as np
import pytest
import torch

from zeshel_tasks.config.biencoder import Pooling
from zeshel_tasks.models.batches import TokenBatch
from zeshel_tasks.models.pooling import Markers, between, pooled

MARKERS = Markers(1, 2)
IDS = torch.tensor([[5, 9, 1, 7, 8, 2, 9, 6], [5, 1, 7, 2, 6, 0, 0, 0], [5, 9, 1, 2, 6, 0, 0, 0]])
SPANS = [[3, 4], [2], [2, 3]]  # a mention without tokens has its markers
USED = [8, 5, 5]


def test_span_is_between_the_markers() -> None:
    assert [row.nonzero()[:, 0].tolist() for row in between(IDS, MARKERS)] == SPANS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pooling", ["cls", "mean", "span", "span_and_mean"])
def test_pooling_of_padded_sequences(pooling: Pooling, dtype: torch.dtype) -> None:
    output = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 8, 4))).to(dtype)
    found = pooled(output, TokenBatch(IDS, IDS != 0), pooling, MARKERS)
    for row, vector in enumerate(found):
        outputs = output[row].float()
        mean, span = outputs[: USED[row]].mean(0), outputs[SPANS[row]].mean(0)
        expected = {"cls": outputs[0], "mean": mean, "span": span, "span_and_mean": span + mean}[pooling]
        torch.testing.assert_close(vector.float(), expected)
