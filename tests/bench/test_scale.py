"""bench.scale, at a size of seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    """By title, the lines of each table; the first has the names of the columns."""
    scratch = tmp_path_factory.mktemp("scale")
    sizes = ["--dimensions", "16", "520", "--entities", "200", "400", "--queries", "50", "--mentions", "300", "600"]
    command = [sys.executable, "-m", "bench.scale", *sizes, "--index_entities", "500", "--scratch", scratch]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    assert list(scratch.iterdir()) == []
    blocks = [block.splitlines() for block in ended.stdout.strip().split("\n\n")]
    # Columns are as wide as their names, and two spaces apart.
    return {title.split(":")[0].split(",")[0]: [line.split("  ") for line in lines] for title, *lines in blocks}


def numbers(lines: list[list[str]]) -> list[list[float]]:
    cells = [[cell.strip().replace(",", "") for cell in line if cell.strip()] for line in lines[1:]]
    return [[float(cell) for cell in row if cell.replace(".", "").replace("-", "").isdigit()] for row in cells]


def test_every_size_has_its_line(tables: dict[str, list[list[str]]]) -> None:
    sizes = [row[:2] for row in numbers(tables["exact search"])]
    assert sizes == [[16, 200], [16, 400], [520, 200], [520, 400]]
    assert [row[0] for row in numbers(tables["mentions"])] == [300, 600]


def test_times_memory_and_disk_are_positive(tables: dict[str, list[list[str]]]) -> None:
    for row in numbers(tables["exact search"]):
        seconds, peak, disk, ratio = row[2:]
        assert min(seconds, peak, disk, ratio) > 0
    for row in numbers(tables["mentions"]):
        assert min(row) > 0


def test_wide_vectors_take_two_bytes_a_number(tables: dict[str, list[list[str]]]) -> None:
    disk = [row[4] for row in numbers(tables["exact search"])]
    assert disk[1] == pytest.approx(400 * 16 * 4 / 1e6, abs=2e-3)
    assert disk[3] == pytest.approx(400 * 520 * 2 / 1e6, abs=2e-3)


def test_indexes_are_compared_or_said_to_be_missing(tables: dict[str, list[list[str]]]) -> None:
    missing = [title for title in tables if title.startswith("no approximate indexes")]
    if not missing:
        assert len(numbers(tables["indexes"])) >= 2
