from pathlib import Path

import numpy as np
import psutil

from zeshel_tasks.data.arrays import ArrayWriter, RowReader, new_array, read_array, release


def test_released_pages_keep_their_data(tmp_path: Path) -> None:
    array = new_array(tmp_path / "a.npy", np.int32, (1000, 7))
    array[:] = np.arange(7000).reshape(1000, 7)
    release(array)
    assert array[999, 6] == 6999
    array[0, 0] = -5
    release(array)
    array.flush()
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy")[0], [-5, 1, 2, 3, 4, 5, 6])
    release(read_array(tmp_path / "a.npy", mapped=True))


def test_released_pages_are_not_resident(tmp_path: Path) -> None:
    array = new_array(tmp_path / "a.npy", np.uint8, (64 * 2**20,))
    process = psutil.Process()
    before = process.memory_info().rss
    array[:] = 1
    filled = process.memory_info().rss
    release(array)
    assert filled - before > 48 * 2**20
    assert process.memory_info().rss - before < 16 * 2**20


def test_release_leaves_in_memory_array_unchanged() -> None:
    array = np.arange(5)
    release(array)
    release(array[1:])
    assert array.tolist() == [0, 1, 2, 3, 4]


def test_an_array_is_written_row_by_row(tmp_path: Path) -> None:
    rows = np.arange(12_000_000, dtype=np.uint8).reshape(-1, 2)
    with ArrayWriter(tmp_path / "a.npy", np.uint8, (2,)) as writer:
        for start in (0, 5, 5, 1_000_000):
            writer.append(rows[start : start * 10 or 5])
    found = read_array(tmp_path / "a.npy", mapped=True)
    expected = np.concatenate([rows[:5], rows[5:50], rows[5:50], rows[1_000_000:]])
    np.testing.assert_array_equal(found, expected)
    np.save(tmp_path / "b.npy", expected)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_an_array_without_rows_is_written(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "a.npy", np.float32):
        pass
    assert read_array(tmp_path / "a.npy", mapped=True).shape == (0,)


def test_rows_are_read_one_range_at_a_time(tmp_path: Path) -> None:
    table = np.arange(24, dtype=np.int32).reshape(4, 3, 2)
    np.save(tmp_path / "a.npy", table)
    rows = RowReader(tmp_path / "a.npy")
    assert len(rows) == 4
    assert rows.dtype == np.int32
    for first, last in ((0, 4), (1, 3), (2, 2), (4, 4)):
        np.testing.assert_array_equal(rows.read(first, last), table[first:last])
    np.testing.assert_array_equal(rows.read(), table)
    np.save(tmp_path / "none.npy", table[:0])
    np.testing.assert_array_equal(RowReader(tmp_path / "none.npy").read(), table[:0])
