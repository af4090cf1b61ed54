import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from zeshel_tasks.orchestration.process.operator import ZeshelProcessOperator
from zeshel_tasks.orchestration.stage_command import StageCommand
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import open_run

FAKE_STAGE = (sys.executable, str(Path(__file__).with_name("fake_stage.py")))
STEP = Step(STAGES["eval-biencoder"], "test")
MakeOperator = Callable[..., ZeshelProcessOperator]


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MakeOperator:
    """``operator(exit=3)`` creates an operator whose stage acts like this (see fake_stage.py)."""
    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)
    monkeypatch.setattr(ZeshelProcessOperator, "program", FAKE_STAGE)

    def make(grace_seconds: float = 30.0, **part: Any) -> ZeshelProcessOperator:
        monkeypatch.setenv("FAKE_STAGE", json.dumps(part))
        return ZeshelProcessOperator(command=StageCommand(STEP, str(tmp_path)), grace_seconds=grace_seconds)

    return make


def context(**params: Any) -> dict[str, Any]:
    """Returns the parts of Airflow's context that the operator reads."""
    return {"run_id": "r1", "params": {"preset": "smoke", **params}, "outlet_events": OutletEventAccessors()}


def test_committed_stage_succeeds_and_passes_on_its_metrics(operator: MakeOperator, tmp_path: Path) -> None:
    task, seen = operator(), context()
    assert task.execute(seen) == {"mentions": 7}
    event = seen["outlet_events"][task.command.asset]
    assert event.extra["metrics"] == {"mentions": 7}
    assert event.extra["run"] == f"{tmp_path}/runs/r1"
    assert event.extra["fingerprint"]


def test_stage_receives_its_run_preset_and_settings(operator: MakeOperator, tmp_path: Path) -> None:
    operator().execute(context(**{"eval_biencoder.top_k": 8, "bert_model": "unused here"}))
    manifest = open_run(f"{tmp_path}/runs/r1").manifest("eval-biencoder-test")
    assert manifest is not None
    assert manifest.config == {"run": f"{tmp_path}/runs/r1", "preset": "smoke", "split": "test", "top_k": "8"}


def test_stored_result_is_reused_without_a_process(
    operator: MakeOperator, tmp_path: Path, raw_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {"download.source": str(raw_archive)}
    run_stage(STAGES["download"], f"{tmp_path}/runs/before", build_recipe("smoke", params))
    task = operator(exit=1, commit=False)
    monkeypatch.setattr(task, "command", command := StageCommand(Step(STAGES["download"]), str(tmp_path)))
    seen = context(**params)
    assert task.execute(seen)["worlds"] == 8
    assert seen["outlet_events"][command.asset].extra["run"] == f"{tmp_path}/runs/r1"


@pytest.mark.parametrize(("exit_code", "retried"), [(2, False), (3, False), (75, True), (1, True), (255, True)])
def test_exit_code_decides_about_retries_and_stage_error_is_shown(
    operator: MakeOperator, exit_code: int, retried: bool
) -> None:
    task = operator(
        exit=exit_code, commit=False, say=["INFO: start", "ERROR: top_k: expected 1, got 0", "  more of it"]
    )
    with pytest.raises(AirflowException) as caught:
        task.execute(context())
    assert isinstance(caught.value, AirflowFailException) is not retried
    assert "top_k: expected 1, got 0\n  more of it" in str(caught.value)
    assert "start" not in str(caught.value)


def test_crash_without_an_error_line_shows_the_last_lines(operator: MakeOperator) -> None:
    task = operator(exit=1, commit=False, say=["Traceback (most recent call last):", "MemoryError"])
    with pytest.raises(AirflowException, match="MemoryError"):
        task.execute(context())


def test_stage_killed_by_a_signal_is_retried(operator: MakeOperator) -> None:
    with pytest.raises(AirflowException, match="ended by signal 9") as caught:
        operator(signal=int(signal.SIGKILL), commit=False).execute(context())
    assert not isinstance(caught.value, AirflowFailException)


def test_exit_code_0_without_a_manifest_fails_the_task(operator: MakeOperator) -> None:
    with pytest.raises(AirflowException, match="no manifest is committed"):
        operator(commit=False).execute(context())


def test_lines_are_logged_at_the_level_of_their_prefix(operator: MakeOperator) -> None:
    task = operator(say=["plain", "INFO: step 1/2", "WARNING: slow", "  because", "ERROR: bad", "NOTE: not a level"])
    with structlog.testing.capture_logs() as logged:
        task.execute(context())
    said = [(line["log_level"], line["event"] % line.get("positional_args", ())) for line in logged]
    assert said[1:] == [
        ("info", "plain"),
        ("info", "step 1/2"),
        ("warning", "slow"),
        ("warning", "  because"),
        ("error", "bad"),
        ("error", "NOTE: not a level"),
    ]


def test_invalid_params_do_not_start_the_stage(operator: MakeOperator, tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="no such setting"):
        operator().execute(context(**{"eval_biencoder.topk": 8}))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("gpus", "before", "after"),
    [(2, None, "0,1"), (0, None, ""), (None, "3", "3"), (1, "5,6", "5"), (None, None, None)],
)
def test_gpus_are_the_first_visible_ones(
    operator: MakeOperator, monkeypatch: pytest.MonkeyPatch, gpus: int | None, before: str | None, after: str | None
) -> None:
    program = "import os; print('ERROR: gpus', os.environ.get('CUDA_VISIBLE_DEVICES')); raise SystemExit(1)"
    monkeypatch.setattr(ZeshelProcessOperator, "program", (sys.executable, "-c", program))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with pytest.raises(AirflowException) as caught:
        operator().execute(context(gpus=gpus))
    assert str(caught.value).endswith(f"\ngpus {after}".rstrip())


def test_airflow_variables_are_not_passed_to_the_stage(operator: MakeOperator, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os; print('ERROR:', [n for n in os.environ if n.startswith('AIRFLOW__')]); raise SystemExit(1)"
    monkeypatch.setattr(ZeshelProcessOperator, "program", (sys.executable, "-c", program))
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    with pytest.raises(AirflowException, match=r"\[\]$"):
        operator().execute(context())


@pytest.mark.parametrize(("hang", "exit_words"), [("polite", "asks for a retry"), ("stubborn", "signal 9")])
def test_stopped_task_fails_and_ends_its_process_group(
    operator: MakeOperator, tmp_path: Path, hang: str, exit_words: str
) -> None:
    pid_file = tmp_path / "pids"
    task = operator(grace_seconds=0.5, hang=hang, pid_file=str(pid_file))
    ended = in_background(lambda: task.execute(context()))
    stage, helper = wait_for_pids(pid_file)
    task.on_kill()
    error = ended()
    assert isinstance(error, AirflowException)
    assert not isinstance(error, AirflowFailException)
    assert str(error).startswith("the task was stopped.")
    assert exit_words in str(error)
    assert gone(stage)
    assert gone(helper)


def test_helper_left_by_the_stage_does_not_block_the_task(operator: MakeOperator, tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    assert operator(pid_file=str(pid_file)).execute(context()) == {"mentions": 7}
    _, helper = wait_for_pids(pid_file)
    assert gone(helper)


def test_task_stopped_before_its_stage_began_fails(operator: MakeOperator, tmp_path: Path) -> None:
    task = operator()
    task.on_kill()
    with pytest.raises(AirflowException, match="stopped before its command started"):
        task.execute(context())
    assert not (tmp_path / "runs").exists()


def test_task_stopped_after_its_stage_ended_succeeds(operator: MakeOperator) -> None:
    task = operator()
    original = task._run
    task._run = lambda *args: (original(*args), task.on_kill())[0]
    assert task.execute(context()) == {"mentions": 7}


def test_exception_from_airflow_ends_the_stage(
    operator: MakeOperator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pids"
    task = operator(hang="polite", pid_file=str(pid_file))

    def time_is_up_at_the_first_line(_format: str, text: str) -> None:
        if text == "helper":
            raise TimeoutError

    monkeypatch.setattr(task.log, "info", time_is_up_at_the_first_line)
    with pytest.raises(TimeoutError):
        task.execute(context())
    assert all(gone(pid) for pid in wait_for_pids(pid_file))


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_stage_ends_when_its_task_process_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    part = json.dumps({"hang": "polite", "pid_file": str(pid_file)})
    program = (
        "import sys; from zeshel_tasks.orchestration.process.child import ChildProcess; import os\n"
        f"for line in ChildProcess({[*FAKE_STAGE, 'download', '--run=/r']!r}, os.environ, 1.0).lines(): pass"
    )
    pid = os.spawnve(os.P_NOWAIT, sys.executable, [sys.executable, "-c", program], {**os.environ, "FAKE_STAGE": part})
    stage, helper = wait_for_pids(pid_file)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert gone(stage)
    psutil.Process(helper).kill()  # a real stage ends its helpers itself when it is stopped


def in_background(call: Callable[[], Any]) -> Callable[[], BaseException | None]:
    """Starts ``call``. The returned function waits for its end and returns its exception."""
    caught: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def ended() -> BaseException | None:
        thread.join(60)
        assert not thread.is_alive()
        return caught[0] if caught else None

    return ended


def wait_for_pids(pid_file: Path) -> tuple[int, int]:
    """Returns the process ids of the stage and of its helper."""
    deadline = time.monotonic() + 60
    while not (pid_file.exists() and len(pid_file.read_text().split()) == 2):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stage, helper = pid_file.read_text().split()
    return int(stage), int(helper)


def gone(pid: int) -> bool:
    """Returns True if the process ends within a few seconds. A zombie counts as ended."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False
