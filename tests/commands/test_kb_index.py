"""``zeshel kb index`` with the models of a finished run."""

from pathlib import Path

import pytest

from tests.support.finished import copy_with_knowledge_base
from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.cli import main
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_OK
from zeshel_tasks.evaluation.approximate import ApproximateIndex
from zeshel_tasks.knowledge_base.follower import Follower
from zeshel_tasks.store import Run, open_store


def test_index_of_the_champions_vectors_is_published(
    finished_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = sorted(finished_run.finished("download").metrics["documents_by_world"])[0]
    address = copy_with_knowledge_base(finished_run, tmp_path, world).store.address
    assert read_champions(open_store(address)).champion is not None
    base = ["kb", "index", "--store", address, "--name", world, "--device", "cpu"]
    assert main(base) == EXIT_CONFIG
    assert "at least 1,000,000 entities (--min-entities), got one of 80" in capsys.readouterr().out
    assert main([*base, "--min-entities", "10"]) == EXIT_OK
    assert f"{world}: indexed; " in capsys.readouterr().out
    followed = Follower(open_store(address), world, tmp_path / "followed")
    assert isinstance(followed.entities.searched, ApproximateIndex)
