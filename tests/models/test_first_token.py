"""The shortcut through the last layer equals transformers' own forward pass."""

from pathlib import Path

import numpy as np
import pytest
import torch

from zeshel_tasks.models.batches import Batch, token_batch
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.models.first_token import first_token

IDS = np.array([[5, 20, 30, 6, 0], [5, 40, 6, 0, 0], [5, 41, 42, 43, 6]], dtype=np.int32)


def batch() -> Batch:
    return token_batch(IDS, 0, torch.device("cpu"))


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_first_token_matches_output_and_gradients_of_whole_forward(golden: Path, layers: int) -> None:
    short, whole = load_bert(golden / "bert"), load_bert(golden / "bert")
    ids = torch.from_numpy(IDS).long()
    hidden = whole.train()(input_ids=ids, attention_mask=(ids != 0).long(), output_hidden_states=True).hidden_states
    expected = hidden[layers][:, 0]
    (part,), places = batch()
    found = first_token(short.train(), part, layers)[places]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    for vectors in (found, expected):
        (vectors * torch.arange(1.0, 4.0)[:, None]).square().sum().backward()
    theirs = dict(whole.named_parameters())
    for name, parameter in short.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-4, rtol=1e-3, msg=name)
    assert {n for n, p in short.named_parameters() if p.grad is not None} == {
        n for n, p in theirs.items() if p.grad is not None
    }


def test_mean_pooling_ignores_padding(golden: Path) -> None:
    bert = load_bert(golden / "bert").eval()
    encoder = Encoder(bert, pooling="mean").eval()
    with torch.inference_mode():
        one_by_one = [bert(input_ids=torch.from_numpy(row[row != 0])[None].long()).last_hidden_state for row in IDS]
        expected = torch.stack([output[0].mean(0) for output in one_by_one])
        torch.testing.assert_close(encoder(batch()), expected, atol=1e-5, rtol=1e-4)
        lengths = Encoder(bert, pooling="mean", normalized=True).eval()(batch()).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(3))
