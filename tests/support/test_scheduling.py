"""The default run starts each server only once, and leaves out the tests that only `make test-all` runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest

@pytest.fixture(scope="session")
def migrated_home():
    return print("airflow was started")

@pytest.fixture(scope="session")
def chromium():
    return None

@pytest.fixture(scope="module")
def expensive():
    return print("expensive was made")

@pytest.mark.parametrize("number", range(4))
def test_that_shares_a_fixture(expensive, number):
    pass

@pytest.mark.parametrize("number", range(4))
def test_on_airflow(migrated_home, number):
    pass

@pytest.mark.parametrize("number", range(4))
def test_in_the_browser(chromium, number):
    pass
"""


def output(folder: Path, *arguments: str) -> str:
    """Returns the output of pytest with our plugin on the tests above."""
    (folder / "test_some.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    airflow\n    browser\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.scheduling", "-p", "xdist", "-rA", *arguments]
    alone = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=alone, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_shared_fixtures_are_made_on_one_worker(tmp_path: Path) -> None:
    printed = output(tmp_path, "--numprocesses=2", "--dist=loadgroup")
    assert "12 passed" in printed
    assert printed.count("expensive was made") == 1
    assert printed.count("airflow was started") == 1


@pytest.mark.parametrize(("marks", "tests"), [("airflow", 4), ("browser", 4), ("not airflow and not browser", 4)])
def test_marks_follow_from_fixtures(marks: str, tests: int, tmp_path: Path) -> None:
    assert f"{tests} passed, {12 - tests} deselected" in output(tmp_path, "-m", marks)
