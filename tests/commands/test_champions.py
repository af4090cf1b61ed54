"""``zeshel champions`` and ``zeshel rollback``, as a user types them."""

from pathlib import Path

import pytest

from tests.champion.test_champions import champion, put_models
from zeshel_tasks.champion.approval import Approval
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


def test_champions_lists_the_champion_and_earlier_ones(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["champions", "--store", store.address]) == EXIT_OK
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [line[:2] for line in lines[-2:]] == [["champion", "tuesday"], ["before", "monday"]]
    assert "better" in lines[-1]


def test_champions_say_who_approved_them(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    at = "2026-01-02T03:04:05+00:00"
    wednesday = champion("wednesday")
    approval = Approval(model=wednesday.identity, approved=True, by="7", name="Ada", reason="fewer errors", at=at)
    assert read_champions(store).promote(wednesday.model_copy(update={"approval": approval}))
    assert main(["champions", "--store", store.address]) == EXIT_OK
    said = " ".join(capsys.readouterr().out.split())
    assert f"approved by Ada (7) at {at}: fewer errors" in said


def test_rollback_prints_the_new_champion(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "--store", store.address, "--reason", "odd [links]"]) == EXIT_OK
    assert capsys.readouterr().out == "run monday is the champion again, instead of run tuesday\n"
    assert read_champions(store).champion == champion("monday")
    assert main(["champions", "--store", store.address]) == EXIT_OK
    assert "odd [links]" in capsys.readouterr().out


def test_rollback_of_the_first_champion_is_refused(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "--store", store.address]) == EXIT_OK
    assert main(["rollback", "--store", store.address]) == EXIT_CONFIG
    assert "expected an earlier champion, got the first champion, monday" in capsys.readouterr().out


def test_rollback_to_a_deleted_model_is_refused(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    gone = champion("monday").crossencoder
    store.delete(f"{gone}/manifest.json")
    assert main(["rollback", "--store", store.address]) == EXIT_CONFIG
    assert f"expected the model of the previous champion, but {gone} was deleted" in capsys.readouterr().out
    assert read_champions(store).champion == champion("tuesday")


def test_store_without_a_champion_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["champions", "--store", str(tmp_path / "none")]) == EXIT_CONFIG
    assert f"got none at {tmp_path / 'none'}/models/champion.json" in capsys.readouterr().out


def test_rollback_that_loses_to_a_promotion_asks_for_retry(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Champions, "roll_back", lambda self, reason: False)
    assert main(["rollback", "--store", store.address]) == EXIT_TRY_AGAIN
    assert read_champions(store).champion == champion("tuesday")
