"""Measures how shards scale with processes that stand in for pods, and what a shard costs: encoding, and linking.

    python -m bench.sharding [--entities 8000] [--hidden 128] [--layers 4] [--mentions 8000] [--candidates 16]
                             [--workers 1 2] [--data ARCHIVE --model DIRECTORY] [--scratch DIRECTORY]

Each shard is a process of its own with one thread: ``zeshel encode-shard`` for one of 8 shards of a world, ``zeshel
link --shard`` for one of 8 files. The store is a local folder. A worker starts the next shard when one has ended. The
overhead is the time of a process outside of the work: the start of Python, torch and the models, the files and the
commit. It is what a shard costs on a machine that is there; a pod also waits for a node and an image.

A process before the first line reads the files that all others read, so that the first line has no cold ones. The
encoder has random weights, of the given size. The linker's models are trained on a few mentions of ``--data``, from
``--model``; by default, the sample worlds and the small BERT.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.sharding.encoding import Encoding
from bench.sharding.linking import Links
from bench.sharding.workers import Shards, measured


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each kind of work and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entities", type=int, default=8000, help="0 skips the encoding")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--mentions", type=int, default=8000, help="0 skips the links")
    parser.add_argument("--candidates", type=int, default=16, help="of a mention, which the cross-encoder scores")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--scratch", type=Path)
    options = parser.parse_args(arguments)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; 8 shards")
    with tempfile.TemporaryDirectory(prefix="sharding-", dir=options.scratch) as folder:
        if options.entities:
            _print("entities", Encoding(Path(folder), options.entities, options.hidden, options.layers), options)
        if options.mentions:
            links = Links(Path(folder), options.data, options.model, options.mentions, options.candidates)
            _print("mentions", links, options)


def _print(what: str, shards: Shards, options: argparse.Namespace) -> None:
    shards.warm_up()
    first = None
    for workers in options.workers:
        row = measured(shards, workers)
        first = first or row
        scaling = first.seconds * first.workers / (row.seconds * workers)
        by_cpu = first.cpu_seconds / row.cpu_seconds
        print(
            f"{workers} workers: {row.seconds:.1f} s, {shards.items / row.seconds:,.1f} {what}/s, {scaling:.0%} of "
            f"linear, {row.cpu_seconds:.1f} s of CPU time ({by_cpu:.0%}); a shard: {row.work:.1f} s work, "
            f"{row.overhead:.1f} s overhead",
            flush=True,
        )


if __name__ == "__main__":
    main()
