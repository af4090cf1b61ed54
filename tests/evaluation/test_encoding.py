from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator

from zeshel_tasks.config.retrieval import VectorDtype
from zeshel_tasks.evaluation.encoding import encode_rows, encode_table
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.models.tokenizer import load_tokens


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-3)])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_table_encoded_by_length_keeps_row_order(
    golden: Path, tmp_path: Path, batch_size: int, dtype: VectorDtype, tolerance: float
) -> None:
    tokens = load_tokens(golden / "bert", lowercase=True)
    texts = ["the sword of the old beast " * n for n in (5, 1, 3, 0, 2, 4, 1)]
    table = tokens.candidates([("the", text) for text in texts], 24)
    encoder, accelerator, counts = Encoder(load_bert(golden / "bert")).eval(), Accelerator(cpu=True), []
    path = tmp_path / "vectors.npy"
    encode_table(encoder, table, batch_size, tokens.pad, accelerator, path, counts.append, dtype)
    one_by_one = np.concatenate([encode_rows(encoder, table[i : i + 1], tokens.pad, accelerator) for i in range(7)])
    assert np.load(path).dtype == dtype
    np.testing.assert_allclose(np.load(path), one_by_one, atol=tolerance)
    assert sum(counts) == len(table)
