"""The watchdog ends a process that makes no progress. Each test uses a separate process."""

import subprocess
import sys

from tests.support.faults import Fault
from tests.training.conftest import MakeFit
from tests.training.mortal import Mishap, train
from zeshel_tasks.errors import EXIT_TRY_AGAIN

SCRIPT = """
import io, logging, sys, time
from zeshel_tasks.text.logs import set_up_logs
from zeshel_tasks.compute.watchdog import Watchdog
set_up_logs()
{first}
with Watchdog({minutes}) as watchdog:
    for _ in range({beats}):
        time.sleep(0.05)
        watchdog.beat()
    {then}
print("went on")
"""


def run(*, first: str = "", **values: object) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(first=first, **values)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)


def test_watchdog_ends_hanging_process_and_asks_for_retry(fault: Fault) -> None:
    fault("training: a step hangs")
    ended = run(minutes=0.005, beats=3, then="time.sleep(600)")
    assert ended.returncode == EXIT_TRY_AGAIN
    (line,) = [line for line in ended.stdout.splitlines() if "ERROR" in line]
    assert "no progress for 0.005 minutes (stall_minutes)" in line
    assert "went on" not in ended.stdout
    assert "<string>" in ended.stderr, "the stacks say where it hangs"


def test_watchdog_needs_no_log_and_no_file_behind_stderr(fault: Fault) -> None:
    fault("training: a step hangs")
    broken = "sys.stderr = io.StringIO(); logging.Logger.error = None"
    ended = run(first=broken, minutes=0.005, beats=3, then="time.sleep(600)")
    assert ended.returncode == EXIT_TRY_AGAIN
    assert "<string>" in ended.stderr


def test_watchdog_leaves_working_process_alone() -> None:
    ended = run(minutes=0.5, beats=3, then="pass")
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "went on", "")


def test_training_with_hanging_step_asks_for_retry(biencoder_fit: MakeFit, fault: Fault) -> None:
    fault("training: a step hangs")
    assert train(biencoder_fit(stall_minutes=0.02), Mishap("an optimizer step", 3, hangs=True)) == EXIT_TRY_AGAIN
