"""Measures memory and speed of imports and of the export, on generated rows.

    python -m bench.importing [--rows 200000] [--allowed 1000] [--only import-entities]

Each command is a process of its own. Prints its peak memory in MB, its CPU seconds and its rows per CPU second. Exits
with 1 if a peak exceeds ``--allowed``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zeshel_tasks.text.json_text import to_json

_TEXT = "word " * 60
_LONGEST = "日 😀. " * 600_000  # 3.6 million characters


def main() -> int:
    """Runs the commands one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="number of entities and of mentions")
    parser.add_argument("--allowed", type=int, default=1000, help="peak memory in MB")
    parser.add_argument("--only", choices=["import-entities"], help="run only this command")
    options = parser.parse_args()
    print(f"{'command':<16} {'MB':>6} {'CPU s':>7} {'rows/s':>8}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "kb.jsonl", map(_entity, range(options.rows)))
        if options.only is None:
            _write(folder / "mentions.jsonl", map(_mention, range(options.rows)))
        chosen = [command for command in _commands(folder) if options.only in (None, command[0])]
        peaks = [_run(command, options.rows) for command in chosen]
    return int(max(peaks) > options.allowed)


def _commands(folder: Path) -> Iterator[list[str]]:
    kb, data = str(folder / "kb"), str(folder / "data")
    yield ["import-entities", str(folder / "kb.jsonl"), "--format", "jsonl", "--out", kb, "--world", "generated"]
    mentions = ["import-mentions", str(folder / "mentions.jsonl"), "--format", "jsonl", "--split-by", "mention"]
    yield [*mentions, "--entities", kb, "--out", data]
    yield ["export-mentions", data, "--out", str(folder / "exported.jsonl")]


def _run(command: list[str], rows: int) -> float:
    process = subprocess.Popen([sys.executable, "-m", "zeshel_tasks", *command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[0]}: expected exit code 0, got {os.waitstatus_to_exitcode(status)}")
    peak, seconds = used.ru_maxrss / 1000, used.ru_utime + used.ru_stime
    print(f"{command[0]:<16} {peak:>6,.0f} {seconds:>7.1f} {rows / seconds:>8,.0f}", flush=True)
    return peak


def _entity(number: int) -> dict[str, Any]:
    return {"id": f"Q{number * 7919 % 1_000_003}-{number}", "title": f"Entity {number}", "text": _TEXT}


def _mention(number: int) -> dict[str, Any]:
    before = _LONGEST if number == 0 else _TEXT
    surface = f"Entity {number}"
    span = {"start": len(before), "end": len(before) + len(surface), "entity": _entity(number)["id"]}
    return {"text": f"{before}{surface} {_TEXT}", "spans": [span]}


def _write(path: Path, lines: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(to_json(line) + "\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
