"""Replaces `zeshel <stage>` in the operator's tests, and does what the environment variable FAKE_STAGE says.

FAKE_STAGE is JSON: {"say": [lines], "commit": bool, "exit": int, "signal": int, "pid_file": path,
"hang": "polite" | "stubborn"}.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from zeshel_tasks.store import Attempt, artifact_folder, open_run

HELPER = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('helper', flush=True); time.sleep(600)"
)


def main(arguments: list[str]) -> int:
    """Acts as described and returns the exit code."""
    part = {"commit": True, "exit": 0, **json.loads(os.environ.get("FAKE_STAGE", "{}"))}
    options = dict(a.removeprefix("--").split("=", 1) for a in arguments[1:])
    for line in part.get("say", ["INFO: hello"]):
        print(line, flush=True)
    if "pid_file" in part:
        hang(part)
    if part["commit"]:
        commit(arguments[0], options)
    if "signal" in part:
        os.kill(os.getpid(), part["signal"])
    return int(part["exit"])


def hang(part: dict) -> None:
    """Hangs, together with a helper process that ignores SIGTERM and holds the same stdout."""
    helper = subprocess.Popen([sys.executable, "-c", HELPER])
    if part.get("hang") == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    Path(part["pid_file"]).write_text(f"{os.getpid()} {helper.pid}")
    if part.get("hang"):
        time.sleep(600)


def commit(command: str, options: dict[str, str]) -> None:
    """Commits a manifest with one metric, as a stage does."""
    run, split = open_run(options["run"]), options.get("split")
    name = f"{command}-{split}" if split else command
    fingerprint = name.encode().hex()
    facts = {
        "stage": command, "split": split, "fingerprint": fingerprint, "package_version": "0", "config": options,
        "inputs": {}, "metrics": {"mentions": 7}, "started_at": "", "finished_at": "", "wall_seconds": 1.0,
        "peak_memory_mb": 1.0, "peak_gpu_memory_mb": None, "device": "cpu", "versions": {}, "hardware": {},
    }  # fmt: skip
    manifest = Attempt(run.store, artifact_folder(command, fingerprint)).commit(facts)
    run.write_record(name, manifest, reused=False, wall_seconds=1.0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
