from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from zeshel_tasks.config.retrieval import VectorDtype
from zeshel_tasks.data.shards import shard_of
from zeshel_tasks.data.tokens import Tokens, TokenTable, fill_table
from zeshel_tasks.evaluation.encoding import encode_rows, encode_table
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.models.tokenizer import load_tokens


@pytest.fixture(scope="module")
def tokens(golden: Path) -> Tokens:
    found: Tokens = load_tokens(golden / "bert", lowercase=True)
    return found


@pytest.fixture(scope="module")
def encoder(golden: Path) -> Encoder:
    return Encoder(load_bert(golden / "bert")).eval()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-3)])
@pytest.mark.parametrize(("rows", "batch_size"), [(7, 1), (7, 3), (7, 64), (150, 20), (150, 256)])
def test_table_encoded_by_length_keeps_row_order(
    tokens: Tokens, encoder: Encoder, tmp_path: Path, rows: int, batch_size: int, dtype: VectorDtype, tolerance: float
) -> None:
    texts = ["the sword of the old beast " * (number * 5 % 7) for number in range(rows)]
    table = tokens.candidates([("the", text) for text in texts], 24)
    accelerator, counts = Accelerator(cpu=True), []
    path = tmp_path / "vectors.npy"
    encode_table(encoder, table, batch_size, tokens.pad, accelerator, path, counts.append, dtype)
    one_by_one = np.concatenate([encode_rows(encoder, table[i : i + 1], tokens.pad, accelerator) for i in range(rows)])
    assert np.load(path).dtype == dtype
    np.testing.assert_allclose(np.load(path), one_by_one, atol=tolerance)
    assert sum(counts) == len(table)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """With AVX2, the threads of MKL divide a product at any row, unless ``MKL_CBWR=AVX2,STRICT`` is set."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_shards_of_a_table_have_the_bits_of_the_whole(tokens: Tokens, encoder: Encoder, tmp_path: Path) -> None:
    table = tokens.candidates([("the", "sword of the old beast " * (n * 13 % 10) + f"{n}") for n in range(900)], 48)
    of_rows = np.array([shard_of(f"id{number}", 4) for number in range(len(table))])
    whole, joined = encoded(encoder, table, tokens.pad, tmp_path), np.zeros((900, encoder.dimension), dtype=np.float32)
    for shard in range(4):
        rows = np.flatnonzero(of_rows == shard)
        joined[rows] = encoded(encoder, table[rows], tokens.pad, tmp_path)
    np.testing.assert_array_equal(joined, whole)


def test_table_is_encoded_while_it_is_filled(tokens: Tokens, encoder: Encoder, tmp_path: Path) -> None:
    entities = [("the", f"sword {number}") for number in range(1500)]
    whole = tokens.candidates(entities, 24)
    table = np.lib.format.open_memmap(tmp_path / "tokens.npy", mode="w+", dtype=tokens.stored_as, shape=(1500, 24))
    filled = fill_table(table, entities, lambda batch: tokens.candidates(batch, 24))
    vectors = encoded(encoder, table, tokens.pad, tmp_path, filled)
    np.testing.assert_array_equal(table, whole)
    np.testing.assert_array_equal(vectors, encoded(encoder, whole, tokens.pad, tmp_path))


@pytest.mark.parametrize("given", [1499, 1501])
def test_wrong_number_of_entities_is_an_error(tokens: Tokens, encoder: Encoder, tmp_path: Path, given: int) -> None:
    table = np.lib.format.open_memmap(tmp_path / "tokens.npy", mode="w+", dtype=np.int32, shape=(1500, 24))
    filled = fill_table(table, [("the", "sword")] * given, lambda batch: tokens.candidates(batch, 24))
    with pytest.raises(ValueError, match="expected 1500 rows of tokens, got"):
        encoded(encoder, table, tokens.pad, tmp_path, filled)


def test_tokens_take_two_bytes_if_the_vocabulary_allows(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tokens.stored_as is np.uint16
    monkeypatch.setattr(type(tokens.tokenizer), "__len__", lambda _: 2**16 + 1)
    assert Tokens(tokens.tokenizer, lowercase=True).stored_as is np.int32


def encoded(
    encoder: Encoder, table: TokenTable, pad: int, folder: Path, filled: Iterable[int] | None = None
) -> np.ndarray:
    path = folder / "vectors.npy"
    placement = Accelerator(cpu=True)
    encode_table(encoder, table, 64, pad, placement, path, lambda _: None, filled=filled, is_part=True)
    return np.load(path)
