"""Measures time, memory and disk of retrieval for growing numbers of entities and mentions, and of approximate indexes.

    python -m bench.scale [--dimensions 384 1024] [--entities 10000 100000 1000000] [--queries 2048]
                          [--mentions 10000 100000] [--index_entities 100000] [--kb_index_entities 1000000]
                          [--clusters 10000] [--scratch DIRECTORY]

With these defaults, it needs 2.1 GB of disk and about 8 minutes on two cores. Ten million entities of 64 numbers
(``--entities 10000000 --dimensions 64``) need 2.6 GB. A CPU reads the file once for 2,048 queries. Each row runs in a
separate process. Its memory is the peak resident memory above that of the idle process, including mapped pages. Vectors
wider than 512 are stored as float16. The indexes are measured if faiss is installed (``pip install faiss-cpu``).

``--kb_index_entities`` measures the index that ``zeshel kb index`` makes, with more and more groups until it finds as
much as is required. A call searches for 8 queries, because a service has few mentions at once. ``--clusters 10000``
puts its entities around as many centres. A million vectors of 384 numbers take 3 GB of memory and several minutes.

docs/recipe.md has the results of the other indexes, and says why evaluations use none; docs/scaling.md has those of
this one.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.own_process import in_own_process
from bench.scale import rows
from bench.scale.kb_index import knowledge_base_index

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[384, 1024])
    parser.add_argument("--entities", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=2048)
    parser.add_argument("--mentions", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--index_entities", type=int, default=100_000, help="0 skips the indexes")
    parser.add_argument("--kb_index_entities", type=int, default=0, help="0 skips the index of a knowledge base")
    parser.add_argument("--clusters", type=int, default=0, help="of its entities; 0: points without any structure")
    parser.add_argument("--scratch", type=Path, help="directory for temporary files; default: the system's")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="scale-", dir=options.scratch) as folder:
        scratch = Path(folder)
        _print("exact search", _searches(options, scratch))
        _print("mentions: tokenized, searched among 1,000 entities, written", _mentions(options, scratch))
        if options.index_entities:
            _print("indexes, against exact search of the same vectors", _indexes(options, scratch, "index_entities"))
        if options.kb_index_entities:
            _print("index of a knowledge base, against exact search", _indexes(options, scratch, "kb_index_entities"))


def _searches(options: argparse.Namespace, scratch: Path) -> Iterator[Row]:
    for dimension in options.dimensions:
        first: Row | None = None
        for entities in options.entities:
            row = _measured(rows.search, scratch, dimension=dimension, entities=entities, queries=options.queries)
            first = first or row
            linear = first["s per 1,000 queries"] * entities / first["entities"]
            yield row | {"time / linear": row["s per 1,000 queries"] / linear}


def _mentions(options: argparse.Namespace, scratch: Path) -> Iterator[Row]:
    return (_measured(rows.mentions, scratch, mentions=count) for count in options.mentions)


def _indexes(options: argparse.Namespace, scratch: Path, size: str) -> Iterator[Row]:
    for dimension in options.dimensions:
        facts = {"dimension": dimension, "entities": getattr(options, size), "queries": options.queries}
        if size == "index_entities":
            found = _measured(rows.indexes, scratch, **facts)
        else:
            found = _measured(knowledge_base_index, scratch, **facts, clusters=options.clusters)
        if "missing" in found:
            print(f"\n{found['missing']}", flush=True)
            return
        yield from found["rows"]


def _measured(measure: Callable[..., Row], scratch: Path, **facts: int) -> Row:
    """Measure in a new process. Its files are gone before the next one starts."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        return in_own_process(measure, Path(folder), **facts)


def _print(title: str, lines: Iterator[Row]) -> None:
    """Print a table, each line as soon as it is measured."""
    for number, row in enumerate(lines):
        if number == 0:
            print(f"\n{title}\n" + "  ".join(f"{name:>{_width(name)}}" for name in row))
        print("  ".join(f"{_shown(value):>{_width(name)}}" for name, value in row.items()), flush=True)


def _width(name: str) -> int:
    return max(len(name), 12)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}" if value < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
