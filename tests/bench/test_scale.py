"""bench.scale, at a size that takes seconds."""

from contextlib import redirect_stdout
from io import StringIO

import pytest

from bench.scale.__main__ import main


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, one_fork_server: None) -> dict[str, list[list[str]]]:
    """The lines of each table by title; the first line has the column names."""
    scratch = tmp_path_factory.mktemp("scale")
    sizes = ["--dimensions", "16", "520", "--entities", "200", "400", "--queries", "50", "--mentions", "300", "600"]
    with redirect_stdout(StringIO()) as printed:
        main(
            [
                *sizes,
                "--index_entities",
                "500",
                "--kb_index_entities",
                "500",
                "--clusters",
                "9",
                "--scratch",
                str(scratch),
            ]
        )
    assert list(scratch.iterdir()) == []
    blocks = [block.splitlines() for block in printed.getvalue().strip().split("\n\n")]
    # Columns are as wide as their names, and two spaces apart.
    return {title.split(":")[0].split(",")[0]: [line.split("  ") for line in lines] for title, *lines in blocks}


def numbers(lines: list[list[str]]) -> list[list[float]]:
    cells = [[cell.strip().replace(",", "") for cell in line if cell.strip()] for line in lines[1:]]
    return [[float(cell) for cell in row if cell.replace(".", "").replace("-", "").isdigit()] for row in cells]


def test_every_size_has_a_row(tables: dict[str, list[list[str]]]) -> None:
    sizes = [row[:2] for row in numbers(tables["exact search"])]
    assert sizes == [[16, 200], [16, 400], [520, 200], [520, 400]]
    assert [row[0] for row in numbers(tables["mentions"])] == [300, 600]


def test_times_memory_and_disk_are_positive(tables: dict[str, list[list[str]]]) -> None:
    for row in numbers(tables["exact search"]):
        seconds, peak, disk, read, ratio = row[2:]
        assert min(seconds, peak, disk, ratio) > 0
        assert read == disk, "50 queries are one pass"
    for row in numbers(tables["mentions"]):
        assert min(row) > 0


def test_wide_vectors_take_two_bytes_per_number(tables: dict[str, list[list[str]]]) -> None:
    disk = [row[4] for row in numbers(tables["exact search"])]
    assert disk[1] == pytest.approx(400 * 16 * 4 / 1e6, abs=2e-3)
    assert disk[3] == pytest.approx(400 * 520 * 2 / 1e6, abs=2e-3)


def test_indexes_are_compared_or_reported_missing(tables: dict[str, list[list[str]]]) -> None:
    missing = [title for title in tables if title.startswith("no approximate indexes")]
    if not missing:
        assert len(numbers(tables["indexes"])) >= 2


def test_index_of_a_knowledge_base_looks_at_more_groups_until_it_finds_enough(
    tables: dict[str, list[list[str]]],
) -> None:
    for dimension in (16, 520):
        found = [row for row in numbers(tables["index of a knowledge base"]) if row[0] == dimension]
        probes, shares = [row[7] for row in found], [row[9] for row in found]
        assert shares[-1] >= 0.995 or probes[-1] == found[-1][8]
        assert all(share < 0.995 for share in shares[:-1])
        assert all(min(row) > 0 for row in found)
