"""Recall of one view of an entity against several, in the same training time.

    python -m bench.views --data ARCHIVE-or-folder --model DIRECTORY [--seconds 60] [--seeds 3] [--shapes 1x64 2x64]

Everything but the views is as in the row of ``bench.quality`` whose candidates its cross-encoders work on. More views
take longer to encode, so a row with more of them trains on fewer mentions.

Why the package has one view: docs/quality.md has what this showed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from bench.data_folder import data_folder
from bench.facts import commit_facts, data_facts, machine_facts
from bench.quality.rows import RETRIEVER
from bench.quality.sample import Sample
from bench.views.linker import Shape, gold_ranks, mentions_in, train
from zeshel_tasks.data.tokens import Tokens
from zeshel_tasks.models.bert import load_tokenizer

_RECALL_AT = (1, 8, 64)
_TIMED_MENTIONS = 160


def main() -> None:
    """Measures and prints."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="views-", dir=options.scratch) as scratch:
        folder = Path(scratch)
        tokens = Tokens(load_tokenizer(options.model, lowercase=True))
        length = max(shape.length for shape in options.shapes)
        sample = Sample(data_folder(options.data, folder), tokens, length, options.most_entities, folder)
        print("\n".join(_facts(options)), flush=True)
        for shape in options.shapes:
            for line in _rows(options, shape, sample):
                print(line, flush=True)


def _rows(options: argparse.Namespace, shape: Shape, sample: Sample) -> Iterator[str]:
    pace, mentions = mentions_in(options.seconds, shape, sample, options.model, _TIMED_MENTIONS)
    yield f"\n{shape}: {pace.mentions_per_second:.2f} mentions/s, so {mentions:,} mentions"
    recalls = []
    for seed in range(options.seeds):
        model, seconds = train(shape, sample, options.model, seed, mentions)
        ranks, views = gold_ranks(model, shape, sample, "valid", options.recall_mentions)
        recalls.append([float(np.mean(ranks < at)) for at in _RECALL_AT])
        yield f"seed {seed}  {seconds:.0f} s  {views:.2f} views an entity  {_shown(recalls[-1:])}"
    yield f"mean  {_shown(recalls)}"


def _shown(recalls: list[list[float]]) -> str:
    means = [100 * statistics.mean(column) for column in zip(*recalls, strict=True)]
    return "  ".join(f"valid R@{at} {mean:.1f}" for at, mean in zip(_RECALL_AT, means, strict=True))


def _facts(options: argparse.Namespace) -> Iterator[str]:
    yield time.strftime("%Y-%m-%d", time.gmtime())
    yield from machine_facts(torch.device("cpu"))
    yield data_facts(options.data)
    yield commit_facts()
    yield f"training: {options.seconds:g} s, seeds: {options.seeds}, as {RETRIEVER.name!r}"
    yield f"recall: {options.recall_mentions} mentions of each valid world, among all its entities"


def _shape(text: str) -> Shape:
    views, length = text.split("x")
    return Shape(int(views), int(length))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="archive or folder in ZESHEL's format")
    parser.add_argument("--model", type=Path, required=True, help="directory of a pretrained BERT")
    parser.add_argument("--seconds", type=float, default=60, help="of training in each row")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--shapes", type=_shape, nargs="+", default=[Shape(1, 64), Shape(2, 64), Shape(3, 32)],
        help="views of an entity x tokens of a view",
    )  # fmt: skip
    parser.add_argument("--most_entities", type=int, default=3000, help="larger train worlds are left out")
    parser.add_argument("--recall_mentions", type=int, default=60, help="measured of each world")
    parser.add_argument("--scratch", type=Path, help="a directory with room; the system's own without")
    return parser.parse_args()


if __name__ == "__main__":
    main()
