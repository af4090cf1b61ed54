"""Stores that earlier versions left: they are read, used and continued, or refused with what to do."""

import json
import tarfile
from pathlib import Path

import pytest

from tests.report.test_run_report import metrics_of
from tests.support.finished import NAMES
from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.cli import main
from zeshel_tasks.commands.pipeline import run_pipeline
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import EXIT_OK
from zeshel_tasks.store import open_run, open_store

STORES = Path(__file__).parents[1] / "golden" / "stores"
VERSIONS = sorted(file.name.removesuffix(".tar.xz") for file in STORES.glob("*.tar.xz"))


@pytest.fixture(params=VERSIONS)
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a store in which a version finished the run ``first`` and built the knowledge base ``harbor``."""
    with tarfile.open(STORES / f"{request.param}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return str(tmp_path / "store")


def test_there_is_a_store_of_the_version_before() -> None:
    assert "0.3.0" in VERSIONS


def test_runs_champions_and_knowledge_bases_are_shown(earlier: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--run", f"{earlier}/runs/first"]) == EXIT_OK
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES)
    assert main(["champions", "--store", earlier]) == EXIT_OK
    assert "first" in capsys.readouterr().out
    assert main(["kb", "list", "--store", earlier]) == EXIT_OK
    assert "harbor" in capsys.readouterr().out


def test_champion_links_text_against_its_knowledge_base(earlier: str, tmp_path: Path) -> None:
    text, out = tmp_path / "text.jsonl", tmp_path / "links.jsonl"
    text.write_text(json.dumps({"id": "1", "text": "They met in the [[harbor]]."}) + "\n")
    arguments = ["--store", earlier, "--kb", "harbor", "--in", str(text), "--out", str(out), "--device", "cpu"]
    assert main(["link", *arguments]) == EXIT_OK
    (link,) = json.loads(out.read_text())["links"]
    assert link["mention"] == "harbor"
    assert 0 <= link["probability"] <= 1


def test_cleanup_keeps_what_runs_champions_and_knowledge_bases_use(
    earlier: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(open_store(earlier).keys(""))
    assert main(["gc", "--store", earlier, "--older-than", "2d"]) == EXIT_OK
    assert main(["kb", "show", "--store", earlier, "--name", "harbor"]) == EXIT_OK
    assert {key for key in before if key.startswith(("runs/first/", "models/", "kb/"))} <= set(
        open_store(earlier).keys("")
    )


@pytest.mark.parametrize("earlier", VERSIONS[:1], indirect=True)  # of later ones, a run takes the same way
def test_next_run_is_compared_with_the_champion_and_its_report_shows_the_earlier_run(
    earlier: str, small_recipe: Recipe
) -> None:
    run = open_run(f"{earlier}/runs/second")
    run_pipeline(run.address, small_recipe)
    metrics = metrics_of(run)
    assert [entry["run"] for entry in metrics["history"]] == ["first", "second"]
    assert metrics["comparison"]["champion"]["run"] == "first"
    assert read_champions(open_store(earlier)).champion is not None
