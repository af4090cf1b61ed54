"""``zeshel champions`` and ``zeshel rollback``, as a user types them."""

from pathlib import Path

import pytest

from tests.champion.test_champions import champion, put_models
from zeshel_tasks.champion.champions import Champions, read_champions
from zeshel_tasks.cli import main
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_OK, EXIT_TRY_AGAIN
from zeshel_tasks.store import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store with two champions, one after the other."""
    store = LocalStore(tmp_path)
    for run in ("monday", "tuesday"):
        assert read_champions(store).promote(champion(run))
        put_models(store, champion(run))
    return store


def test_the_champion_is_shown_with_those_before_it(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["champions", "--store", store.address]) == EXIT_OK
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [line[:2] for line in lines[-2:]] == [["champion", "tuesday"], ["before", "monday"]]
    assert "better" in lines[-1]


def test_a_roll_back_says_who_is_champion_now(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "--store", store.address, "--reason", "odd [links]"]) == EXIT_OK
    assert capsys.readouterr().out == "run monday is the champion again, instead of run tuesday\n"
    assert read_champions(store).champion == champion("monday")
    assert main(["champions", "--store", store.address]) == EXIT_OK
    assert "odd [links]" in capsys.readouterr().out


def test_a_second_roll_back_has_nowhere_to_go(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "--store", store.address]) == EXIT_OK
    assert main(["rollback", "--store", store.address]) == EXIT_CONFIG
    assert "expected an earlier champion, got the first champion, monday" in capsys.readouterr().out


def test_a_roll_back_to_a_model_that_was_deleted_is_refused(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = champion("monday").crossencoder
    store.delete(f"{gone}/manifest.json")
    assert main(["rollback", "--store", store.address]) == EXIT_CONFIG
    assert f"expected the model of the previous champion, but {gone} was deleted" in capsys.readouterr().out
    assert read_champions(store).champion == champion("tuesday")


def test_a_store_without_a_champion_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["champions", "--store", str(tmp_path / "none")]) == EXIT_CONFIG
    assert f"got none at {tmp_path / 'none'}/models/champion.json" in capsys.readouterr().out


def test_a_roll_back_that_a_promotion_forestalls_is_to_be_tried_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Champions, "roll_back", lambda self, reason: False)
    assert main(["rollback", "--store", store.address]) == EXIT_TRY_AGAIN
    assert read_champions(store).champion == champion("tuesday")
