"""`python -m zeshel_tasks.demo [--data ARCHIVE] [--model NAME] [--param KEY=VALUE]... [--exit]`

Starts an Airflow on this machine, runs the DAG once and shows its progress. Airflow runs until Ctrl-C; with --exit, the
demo stops it after the run and exits with 0 if the run succeeded, else with 1. Finished work of an earlier demo is
reused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from zeshel_tasks.commands.argument_types import parsed
from zeshel_tasks.compute.temporary import temporary_folder
from zeshel_tasks.demo.links import ZESHEL, show_links
from zeshel_tasks.demo.local_airflow import AirflowFailed, LocalAirflow
from zeshel_tasks.demo.local_airflow.client import AirflowRefused
from zeshel_tasks.demo.watch import failed_lines, watch
from zeshel_tasks.location import LocalPath, Location, WikiDump, model_location, source_location
from zeshel_tasks.orchestration.settings import run_address
from zeshel_tasks.text.safe_text import quoted

DAG_ID = "zeshel"


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return its exit code: 0 if the run succeeded, 1 if it failed or could not start."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.data is not None and options.model is None and not Path(options.data).is_file():
        parser.error(
            f"--data: expected a local file, to build a small BERT from it, or also --model, got {quoted(options.data)}"
        )
    console = Console()
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        return _run(options, console)
    except (AirflowFailed, AirflowRefused, subprocess.CalledProcessError) as error:
        console.print(str(error), markup=False, style="red", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("stopped; `make demo` resumes")
        return 1


def _run(options: argparse.Namespace, console: Console) -> int:
    store, home = options.folder / "store", options.airflow_home.resolve()
    conf = {"preset": "smoke", **_inputs(options), **dict(options.param)}
    variables = {"ZESHEL_STORE": str(store.resolve()), "ZESHEL_RETRIES": "2", "ZESHEL_RETRY_DELAY_SECONDS": "5"}
    with LocalAirflow(home, options.dags, variables, DAG_ID, partial(console.print, soft_wrap=True)) as airflow:
        console.print(f"Airflow: {airflow.url}  user {airflow.username}  password {airflow.password}", soft_wrap=True)
        run_id = airflow.client.trigger(DAG_ID, conf, f"demo-{datetime.now():%Y%m%d-%H%M%S}")
        address = run_address(variables["ZESHEL_STORE"], run_id)
        console.print(f"run: {address}", soft_wrap=True)
        state = watch(airflow.client, DAG_ID, run_id, console, airflow.check)
        _show_end(console, airflow, run_id, address, state)
        if not options.exit:
            _stay(console, airflow)
    return 0 if state == "success" else 1


def _inputs(options: argparse.Namespace) -> dict[str, Any]:
    """Params for data set and model; by default sample worlds and a small BERT, created at first use."""
    data, model = options.data, options.model
    if data is None:
        data = _made_once(options.folder / "sample_worlds.tar.bz2", ["make-sample-worlds"])
    if model is None:
        of_the_data = hashlib.sha256(data.encode()).hexdigest()[:8]  # its vocabulary depends on the data
        model = _made_once(options.folder / f"small_bert-{of_the_data}", ["make-small-bert", "--data", data])
    return {"download.source": data, "bert_model": model}


def _made_once(target: Path, command: list[str]) -> str:
    """Create ``target`` with a `zeshel` command if it does not exist. An interrupted command leaves no ``target``."""
    if not target.exists():
        unfinished = target.parent / "unfinished" / target.name
        shutil.rmtree(unfinished.parent, ignore_errors=True)
        unfinished.parent.mkdir(parents=True)
        subprocess.run([*ZESHEL, *command, "--out", str(unfinished)], check=True)
        unfinished.rename(target)
    return str(target.resolve())


def _show_end(console: Console, airflow: LocalAirflow, run_id: str, address: str, state: str) -> None:
    tasks = airflow.client.task_states(DAG_ID, run_id)
    if state == "success":
        subprocess.run([*ZESHEL, "show", "--run", address], check=True)
        with temporary_folder("zeshel-demo-", None) as folder:
            show_links(address, folder, console)
    for task in tasks:
        if task.state == "failed":
            console.print(f"{task.task_id} failed; the end of its log:", style="bold red")
            lines = failed_lines(airflow.client.log(DAG_ID, run_id, task.task_id, task.try_number))
            console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    console.print(f"the run ended in {state}", style="green" if state == "success" else "bold red")


def _stay(console: Console, airflow: LocalAirflow) -> None:
    console.print(f"Airflow: {airflow.url}  user {airflow.username}  password {airflow.password}", soft_wrap=True)
    console.print("press Ctrl-C to stop it")
    try:
        while True:
            time.sleep(5)
            airflow.check()
    except KeyboardInterrupt:
        console.print("stopping Airflow")


def _address(parse: Callable[[str], Location]) -> Callable[[str], str]:
    """An argument's type: makes a local path absolute, because Airflow has another working directory."""

    def checked(text: str) -> str:
        location = parsed(text, parse)
        if isinstance(location, WikiDump) and isinstance(location.dump, LocalPath):
            return f"wiki:{location.dump.path.resolve()}"
        return str(location.path.resolve()) if isinstance(location, LocalPath) else text

    return checked


def _parameter(text: str) -> tuple[str, Any]:
    """Parse ``key=value``; the value is JSON or else text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected key=value, got {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _parser() -> argparse.ArgumentParser:
    root = Path.cwd()
    parser = argparse.ArgumentParser(prog="python -m zeshel_tasks.demo", description=__doc__)
    parser.add_argument(
        "--data",
        type=_address(source_location),
        help="archive in ZESHEL format: path or address; default: generated sample worlds",
    )
    parser.add_argument(
        "--model",
        type=_address(model_location),
        help="BERT: hub name, directory or s3 address; default: a small one built for the data",
    )
    parser.add_argument("--param", action="append", default=[], type=_parameter, help="key=value of the trigger form")
    parser.add_argument("--exit", action="store_true", help="shut down when the run has ended")
    parser.add_argument("--folder", type=Path, default=root / ".demo", help="folder for the store and generated inputs")
    parser.add_argument("--airflow-home", type=Path, default=root / ".airflow", help="folder for Airflow's files")
    parser.add_argument("--dags", type=Path, default=root / "dags", help="folder of DAG files")
    return parser


def _as_ctrl_c(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
