"""The question between report and promote: when it is asked, and what it says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput

from tests.stages.test_promote import compared
from tests.support.finished import finish_stage
from zeshel_tasks.champion.approval import read_approval
from zeshel_tasks.champion.champions import Champion, read_champions
from zeshel_tasks.orchestration.approval import ApprovedPromotion, ApprovePromotion
from zeshel_tasks.orchestration.settings import Approver
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step
from zeshel_tasks.store import LocalStore, artifact_folder, open_run

BETTER, WORSE = compared(elves=(90, 20), orcs=(80, 30)), compared(elves=(20, 90), orcs=(30, 80))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The questions that were asked."""
    questions: list[dict[str, Any]] = []
    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **asked: questions.append(asked)
    )
    return questions


OWN, RIVAL = artifact_folder("fuse", "f" * 64), artifact_folder("fuse", "e" * 64)


def champion(fusion: str) -> Champion:
    crossencoder = fusion.replace("/fuse/", "/train-crossencoder/")
    return Champion(run="before", biencoder="b", crossencoder=crossencoder, fusion=fusion, promoted_at="y", decision={})


ADA = Approver(id="7", name="Ada")
REASON = "fewer wrong links"


def execute(
    store: Path, measured: dict[str, Any], *champions: str, approvers: tuple[Approver, ...] = (), **params: Any
) -> Any:
    """Executes the task of a run with these metrics of ``compare``. The last of ``champions`` is the present one."""
    run = open_run(f"{store}/runs/r1")
    for fusion in champions:
        assert read_champions(run.store).promote(champion(fusion))
    for stage, metrics in {"train-crossencoder": {}, "fuse": {}, "compare": measured}.items():
        finish_stage(run, stage, "f" * 64, metrics)
    task = ApprovePromotion(store=str(store), approvers=approvers)
    ti = type("TaskInstance", (), {"id": "1"})()
    return task.execute({"run_id": "r1", "params": {"preset": "smoke", **params}, "task_instance": ti, "ti": ti})


def answer(store: Path, chosen: str, person: dict[str, str] | None, *approvers: Approver) -> None:
    """Answers the question of the run, as Airflow passes on what a person chose."""
    event = {
        "chosen_options": [chosen],
        "params_input": {"reason": REASON},
        "responded_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "responded_by_user": person,
    }
    ApprovePromotion(store=str(store), approvers=approvers).execute_complete({"run_id": "r1"}, event)


def test_approval_is_not_requested_without_the_param(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    assert execute(tmp_path, BETTER, RIVAL) is None
    assert asked == []


def test_question_about_a_better_model_has_its_figures(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    with pytest.raises(TaskAwaitingInput):
        execute(tmp_path, BETTER, RIVAL, approve=True)
    (question,) = asked
    assert question["options"] == ["Approve", "Reject"]
    assert "[its report](/zeshel/runs/r1/report#champion)" in question["body"]
    assert "The gate says: better, against champion before: 8.50% instead of 2.50%" in question["body"]
    assert "| elves | 1,000 | 2.00% | 9.00% | +7.00 |" in question["body"]


def test_world_names_are_escaped_in_markdown(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    measured = compared(**{"lego|[Approve](https:evil.example)<b>": (90, 20), "forgotten_realms": (80, 30)})
    with pytest.raises(TaskAwaitingInput):
        execute(tmp_path, measured, RIVAL, approve=True)
    body = asked[0]["body"]
    assert r"| lego\|\[Approve\](https:evil.example)\<b\> | 1,000 |" in body
    assert "| forgotten_realms |" in body


def test_approval_is_not_requested_for_a_worse_model(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    assert execute(tmp_path, WORSE, RIVAL, approve=True) is None
    assert asked == []


def test_approval_is_requested_for_the_first_champion(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    with pytest.raises(TaskAwaitingInput):
        execute(tmp_path, {"unnormalized_accuracy": 0.61, "champion": None}, approve=True)
    assert "Unnormalized accuracy on test: **61.00%**." in asked[0]["body"]


def test_approval_uses_the_margin_of_the_run(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    assert execute(tmp_path, BETTER, RIVAL, approve=True, **{"promote.margin": 0.5}) is None
    assert asked == []


def test_approval_is_not_requested_again_for_the_champion(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    """This happens in every scheduled run without new data."""
    first = {"unnormalized_accuracy": 0.61, "champion": None}
    assert execute(tmp_path, first, OWN, approve=True) is None
    assert execute(tmp_path / "other", BETTER, RIVAL, OWN, approve=True) is None
    assert asked == []


def test_approval_is_not_requested_for_a_rolled_back_model(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    store = LocalStore(tmp_path)
    for fusion in (RIVAL, OWN):
        assert read_champions(store).promote(champion(fusion))
    assert read_champions(store).roll_back("odd links")
    assert execute(tmp_path, BETTER, approve=True) is None
    assert asked == []


def test_approvers_are_asked_whatever_the_run_says(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    with pytest.raises(TaskAwaitingInput):
        execute(tmp_path, BETTER, RIVAL, approvers=(ADA, Approver(id="bo")), approve=False)
    assert asked[0]["assigned_users"] == [{"id": "7", "name": "Ada"}, {"id": "bo", "name": "bo"}]
    assert list(asked[0]["params"]) == ["reason"]


def test_anybody_may_answer_without_approvers(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    with pytest.raises(TaskAwaitingInput):
        execute(tmp_path, BETTER, RIVAL, approve=True)
    assert asked[0]["assigned_users"] is None


@pytest.mark.parametrize(("chosen", "approved"), [("Approve", True), ("Reject", False)])
def test_answer_is_recorded_in_the_run(
    tmp_path: Path, asked: list[dict[str, Any]], chosen: str, approved: bool
) -> None:
    execute(tmp_path, BETTER)
    answer(tmp_path, chosen, {"id": "7", "name": "Ada"}, ADA)
    found = read_approval(open_run(f"{tmp_path}/runs/r1"), OWN)
    assert found is not None
    assert (found.approved, found.by, found.name, found.reason) == (approved, "7", "Ada", REASON)
    said = "approved" if approved else "rejected"
    assert str(found) == f"{said} by Ada (7) at 2026-01-02T03:04:05+00:00: {REASON}"
    assert read_approval(open_run(f"{tmp_path}/runs/r1"), RIVAL) is None  # the run has another model since


@pytest.mark.parametrize("person", [{"id": "8", "name": "Ada"}, None])
def test_answer_of_another_person_is_refused(tmp_path: Path, person: dict[str, str] | None) -> None:
    execute(tmp_path, BETTER)
    with pytest.raises(AirflowFailException, match="expected an answer of 7, got one of"):
        answer(tmp_path, "Approve", person, ADA)
    assert read_approval(open_run(f"{tmp_path}/runs/r1"), OWN) is None


def promote(store: Path, **params: Any) -> Any:
    """Returns what the task ``promote`` finds before it starts a pod: None if there is work to do."""
    command = ApprovedPromotion(Step(STAGES["promote"]), str(store), frozenset({"7"}))
    return command.reused({"run_id": "r1", "params": {"preset": "smoke", **params}})


def test_promotion_without_approval_is_refused(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    """For example, because somebody has marked the task `approve` as successful."""
    with pytest.raises(TaskAwaitingInput):
        execute(tmp_path, BETTER, RIVAL, approvers=(ADA,))
    with pytest.raises(AirflowFailException, match=r"expected the approval of 7 in .*/runs/r1, got none"):
        promote(tmp_path)
    answer(tmp_path, "Approve", {"id": "8", "name": "Bo"})
    with pytest.raises(AirflowFailException, match="got approved by Bo"):
        promote(tmp_path)
    answer(tmp_path, "Reject", {"id": "7", "name": "Ada"})
    with pytest.raises(AirflowFailException, match="got rejected by Ada"):
        promote(tmp_path)
    answer(tmp_path, "Approve", {"id": "7", "name": "Ada"})
    assert promote(tmp_path) is None


def test_model_that_is_not_promoted_needs_no_approval(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    execute(tmp_path, WORSE, RIVAL, approvers=(ADA,))
    assert promote(tmp_path) is None
    execute(tmp_path / "other", BETTER, RIVAL, OWN, approvers=(ADA,))  # it is the champion already
    assert promote(tmp_path / "other") is None
    assert asked == []
