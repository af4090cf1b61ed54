"""Measures speed, memory and disk of an import of a large wiki.

    python -m bench.wiki.memory [--pages 100000 | --dump FILE] [--allowed 1000] [--scratch DIRECTORY]

Prints the memory of all processes together in each tenth of the time, so that a growing one is
seen. Exits with 1 if its peak exceeds ``--allowed`` MB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.wiki.pages import large_wiki, write_dump

_PAUSE = 0.2


class Sample(NamedTuple):
    """Megabytes: memory of the import, that of the processes that parse, and what is on the disk beside the dump."""

    import_mb: float
    parsers_mb: float
    disk_mb: float

    @property
    def memory_mb(self) -> float:
        """Of all processes together."""
        return self.import_mb + self.parsers_mb


class Watch(threading.Thread):
    """Measures a process and its children until it ends; the disk only every few seconds."""

    def __init__(self, pid: int, scratch: Path) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self._process, self._scratch = psutil.Process(pid), scratch

    def run(self) -> None:
        """Looks until the process ends."""
        disk, pauses = 0.0, 0
        with suppress(psutil.NoSuchProcess):
            while self._process.status() != psutil.STATUS_ZOMBIE:
                own = self._process.memory_info().rss / 1e6
                children = sum(map(_memory_mb, self._process.children(recursive=True)))
                disk = _size_mb(self._scratch) if pauses % 50 == 0 else disk
                self.samples.append(Sample(own, children, disk))
                pauses += 1
                time.sleep(_PAUSE)


def main() -> int:
    """Imports, and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=100_000, help="number of generated pages, of 3 kB each")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--dump", type=Path, help="a dump instead of generated pages")
    parser.add_argument("--work", type=Path, help="as of import-wiki: pages in it are not parsed again")
    parser.add_argument("--allowed", type=int, default=1000, help="peak memory in MB of all processes together")
    parser.add_argument("--scratch", type=Path, help="where temporary files go: ten times the size of the dump")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        dump, scratch = options.dump or Path(name, "wiki.xml"), Path(name, "scratch")
        scratch.mkdir()
        if options.dump is None:
            write_dump(dump, large_wiki(options.seed, options.pages))
        samples, seconds = _import(dump, options.work, scratch)
        report = json.loads((scratch / "data" / "report" / "import.json").read_text())
        megabytes = dump.stat().st_size / 1e6
    pages = report["entities"]["count"] + sum(found["count"] for found in report["pages_dropped"].values())
    peak = max(sample.memory_mb for sample in samples)
    print(
        f"{megabytes:,.0f} MB, {pages:,} pages, {report['mentions']['count']:,} mentions: {seconds:,.0f} s, "
        f"{pages / seconds:,.0f} pages/s\n"
        f"peak of all processes {peak:,.0f} MB: {max(s.import_mb for s in samples):,.0f} MB of the import, "
        f"{max(s.parsers_mb for s in samples):,.0f} MB of those that parse; "
        f"{max(s.disk_mb for s in samples):,.0f} MB on the disk"
    )
    step = -(-len(samples) // 10)
    tenths = (max(sample.memory_mb for sample in samples[at : at + step]) for at in range(0, len(samples), step))
    print("peak in each tenth of the time:", " ".join(f"{tenth:,.0f}" for tenth in tenths), "MB")
    return int(peak > options.allowed)


def _import(dump: Path, work: Path | None, scratch: Path) -> tuple[list[Sample], float]:
    command = [sys.executable, "-m", "zeshel_tasks", "import-wiki", str(dump), "--world", "w"]
    command += ["--out", str(scratch / "data"), *(("--work", str(work)) if work is not None else ())]
    started = time.monotonic()
    with subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(scratch), "ZESHEL_SCRATCH": str(scratch)}
    ) as process:
        watch = Watch(process.pid, scratch)
        watch.start()
        if process.wait():
            raise SystemExit(f"import-wiki: expected exit code 0, got {process.returncode}")
    watch.join()
    return watch.samples, time.monotonic() - started


def _memory_mb(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / 1e6
    except psutil.NoSuchProcess:  # it has just ended
        return 0.0


def _size_mb(folder: Path) -> float:
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            size += path.stat().st_blocks * 512 if path.is_file() else 0
    return size / 1e6


if __name__ == "__main__":
    sys.exit(main())
