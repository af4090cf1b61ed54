"""The counts of docs/reliability.md come from what the tests print."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fault_counts import BEGIN, END, PAGE, table, with_table

PRINTED = """
     3 of      3  store: 503 burst
 1,224 of  1,224  store: flipped bit in a manifest, record or checkpoint
     1 of      2  two at once: two runs
 1,228 of  1,229  in all
"""

ROOT = Path(__file__).parents[2]
FAULTY_TESTS = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_survived(fault, number):
    fault("store: 503 burst", 2)

def test_not_survived(fault):
    fault("store: 503 burst")
    assert False
"""


def test_fault_of_a_second_run_is_not_counted_again() -> None:
    assert table([*PRINTED.splitlines(), "     3 of      3  store: 503 burst"]) == table(PRINTED.splitlines())


@pytest.mark.parametrize("parallel", [[], ["-p", "xdist", "--numprocesses=2", "--dist=loadgroup"]])
def test_faults_of_all_workers_are_counted_together(parallel: list[str], tmp_path: Path) -> None:
    (tmp_path / "test_faulty.py").write_text(FAULTY_TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.support.faults",
        *parallel,
        f"--rootdir={tmp_path}",
        str(tmp_path),
    ]
    alone = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ended = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
    rows = table(ended.stdout.splitlines()).splitlines()[2:]
    assert rows == ["| store | 1 | 9 | 8 |", "| all | 1 | 9 | 8 |"], ended.stdout


def test_lines_of_an_area_are_added_up() -> None:
    rows = table(PRINTED.splitlines()).splitlines()[2:]
    assert rows == ["| store | 2 | 1,227 | 1,227 |", "| two at once | 1 | 2 | 1 |", "| all | 3 | 1,229 | 1,228 |"]


def test_output_without_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the output of the tests"):
        table(["all passed"])


def test_reliability_page_has_table_between_its_markers() -> None:
    page = PAGE.read_text()
    old = page.partition(BEGIN)[2].partition(END)[0]
    assert with_table(page, old) == page
    assert "| all |" in old
    assert with_table(page, "new\n").partition(BEGIN)[2].startswith("new\n" + END)


def test_reliability_page_says_every_fault_was_survived() -> None:
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith("| all |"))
    _, _, injected, survived = (cell.strip() for cell in row.strip("|").split("|"))
    assert injected == survived
