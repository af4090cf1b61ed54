from pathlib import Path

import numpy as np
import pytest
import torch

from zeshel_tasks.models import batches
from zeshel_tasks.models.batches import parts_by_length, token_batch, used_lengths
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.models.encoder import Encoder

CPU = torch.device("cpu")


def table(lengths: list[int], width: int = 12) -> np.ndarray:
    ids = np.zeros((len(lengths), width), dtype=np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = np.arange(1, length + 1)
    return ids


def test_used_lengths_end_at_last_token_and_are_positive() -> None:
    ids = table([3, 12, 1, 0])
    ids[0, 1] = 0  # padding inside, which an unknown control code may cause
    assert used_lengths(ids, 0).tolist() == [3, 12, 1, 1]


def test_parts_are_sorted_by_length_and_bounded_by_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "_TOKENS_ON_CPU", 20)
    lengths = np.random.default_rng(0).integers(1, 30, 50)
    parts = list(parts_by_length(lengths, 29, CPU))
    assert sorted(np.concatenate([rows for rows, _ in parts])) == list(range(50))
    assert all(length == lengths[rows].max() for rows, length in parts)
    assert all(len(rows) * length <= 20 or len(rows) == 1 for rows, length in parts)
    assert [length for _, length in parts] == sorted((length for _, length in parts), reverse=True)


def test_lengths_on_a_gpu_are_multiples_of_16_within_the_limit() -> None:
    lengths = np.array([24, 17, 16, 3])
    assert [length for _, length in parts_by_length(lengths, 24, torch.device("cuda"))] == [24]
    assert [length for _, length in parts_by_length(lengths[1:], 24, torch.device("cuda"))] == [24]
    assert [length for _, length in parts_by_length(lengths[2:], 24, torch.device("cuda"))] == [16]


def test_batch_of_128_sequences_is_not_padded_to_the_longest_on_a_gpu() -> None:
    lengths = np.repeat([128, 48], 64)
    assert [length for _, length in parts_by_length(lengths, 128, torch.device("cuda"))] == [128, 48]


def test_batch_without_padding_has_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_TOKENS_ON_CPU", 10)
    parts, places = token_batch(table([2, 5, 5, 1]), 0, CPU)
    assert [part.ids.shape for part in parts] == [(2, 5), (2, 2)]
    assert parts[0].mask is None
    assert parts[1].mask is not None
    assert parts[1].mask.tolist() == [[True, True], [True, False]]
    assert places.tolist() == [2, 0, 1, 3]


def test_vectors_of_parts_are_returned_in_order(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(load_bert(golden / "bert")).eval()
    ids = table([3, 12, 1, 7, 7, 2])
    with torch.inference_mode():
        whole = encoder(token_batch(ids, 0, CPU))
        monkeypatch.setattr(batches, "_TOKENS_ON_CPU", 8)
        torch.testing.assert_close(encoder(token_batch(ids, 0, CPU)), whole, atol=1e-5, rtol=1e-4)
