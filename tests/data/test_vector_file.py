from pathlib import Path

import numpy as np
import pytest

from zeshel_tasks.data.vector_file import VectorFile, storable
from zeshel_tasks.errors import ConfigError, DataError

VECTORS = np.arange(40, dtype=np.float32).reshape(10, 4)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("size", [1, 3, 10, 64])
def test_blocks_contain_all_rows_in_order(dtype: str, size: int, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS.astype(dtype))
    file = VectorFile(tmp_path / "v.npy")
    blocks = [block.copy() for block in file.blocks(size)]
    np.testing.assert_array_equal(np.concatenate(blocks), VECTORS)
    assert {block.dtype for block in blocks} == {np.dtype(dtype)}
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert (len(file), file.dimension) == VECTORS.shape


@pytest.mark.parametrize(
    "array",
    [VECTORS[0], VECTORS.astype(np.float64), VECTORS.astype(np.int32), np.asfortranarray(VECTORS), VECTORS[None]],
    ids=["one vector", "float64", "integers", "column by column", "three dimensions"],
)
def test_arrays_other_than_vectors_are_refused(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(DataError, match=r"v.npy: no vectors; expected float32 or float16 \[rows, dimension\]"):
        VectorFile(tmp_path / "v.npy")


def test_shrinking_file_raises_data_error_not_bus_error(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, VECTORS)
    file = VectorFile(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="vectors are missing; expected 8 more bytes"):
        list(file.blocks(4))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_are_stored_in_requested_dtype(dtype: str) -> None:
    stored = storable(VECTORS / 3, dtype)
    assert stored.dtype == dtype
    np.testing.assert_allclose(stored, VECTORS / 3, rtol=1e-3)


def test_number_beyond_float16_is_refused_by_setting_name() -> None:
    assert np.isfinite(storable(np.array([[65_504.0]], dtype=np.float32), "float16")).all()
    for number in (65_505.0, -70_000.0, 1e30):
        with pytest.raises(ConfigError, match=r"^vector_dtype: .*got float16, whose maximum is 65,504: use float32"):
            storable(np.array([[1, number]], dtype=np.float32), "float16")
        assert storable(np.array([[1, number]], dtype=np.float32), "float32")[0, 1] == np.float32(number)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_non_finite_vectors_are_refused(number: float, dtype: str) -> None:
    with pytest.raises(DataError, match="vectors that are not numbers"):
        storable(np.array([[1, number]], dtype=np.float32), dtype)
