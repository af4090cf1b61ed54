"""Links of a folder of texts, ``zeshel link --shard``."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from bench.serve.inputs import KB, make_store, texts_with_mentions
from bench.sharding.workers import zeshel

_FILES, _KB_ENTITIES, _WARM = 8, 5000, "warm.jsonl"


class Links:
    """Links mentions in 8 files.

    Args:
        folder: for the store, the texts and the results.
        data: a data set for the training of the models; None for the sample worlds.
        model: a model that they begin with; None for the small BERT.
        mentions: of all files.
        candidates: of a mention.
    """

    def __init__(self, folder: Path, data: Path | None, model: Path | None, mentions: int, candidates: int) -> None:
        self._folder, self._results, self._overhead = folder / "links", 0, 0.0
        make_store(self._folder, data, model, _KB_ENTITIES, candidates, {})
        (self._folder / "in").mkdir()
        self._names = [f"{number}.jsonl" for number in range(_FILES)]
        self.items = _FILES * (mentions // _FILES)
        for number, name in enumerate((*self._names, _WARM)):
            texts = texts_with_mentions(_KB_ENTITIES, 1 if name == _WARM else mentions // _FILES, seed=number)
            lines = "".join(json.dumps(text) + "\n" for text in texts)
            (self._folder / "in" / name).write_text(lines, encoding="utf-8")

    def warm_up(self) -> None:
        """Link one mention twice, and note how long the second process takes."""
        for _ in range(2):
            started = time.perf_counter()
            zeshel(*self._command(_WARM))
            self._overhead = time.perf_counter() - started
            self._results += 1

    def commands(self) -> list[list[str]]:
        """Return the commands for all files, with a new folder for the results."""
        self._results += 1
        return [self._command(name) for name in self._names]

    def seconds_of_work(self, took: Sequence[float]) -> list[float]:
        """Return the time of each process above that of one with a single mention."""
        return [seconds - self._overhead for seconds in took]

    def _command(self, name: str) -> list[str]:
        places = [f"--in={self._folder}/in/", f"--out={self._folder}/out-{self._results}/"]
        return ["link", f"--store={self._folder}/store", f"--kb={KB}", *places, f"--shard={name}", "--device=cpu"]
