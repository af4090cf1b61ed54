"""The store that is served, and the requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from unittest.mock import patch

import numpy as np

from bench.entities import random_entities
from zeshel_tasks.champion.champions import Champion, read_champions
from zeshel_tasks.commands.pipeline import run_pipeline
from zeshel_tasks.compute.device import Placement
from zeshel_tasks.config.link import LinkMode
from zeshel_tasks.config.retrieval import VectorDtype
from zeshel_tasks.data.arrays import new_array
from zeshel_tasks.data.tokens import TokenTable
from zeshel_tasks.data.vector_file import storable
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.demo.sample_inputs import ARCHIVE, MODEL, make_sample_inputs
from zeshel_tasks.evaluation import entity_encoding
from zeshel_tasks.knowledge_base.changes import build
from zeshel_tasks.knowledge_base.encoding import encoding_of
from zeshel_tasks.knowledge_base.head import KnowledgeBase
from zeshel_tasks.linking.models import LinkerModels
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Attempt, LocalStore, Store, artifact_folder

KB = "bench"
_FIRST_TEXT = 10**9  # number of an entity that no knowledge base has
_WORDS = 60


def make_store(
    work: Path, data: Path | None, model: Path | None, entities: int, candidates: int, settings: dict[str, str]
) -> None:
    """Make a champion and a knowledge base in ``work/store``, unless they exist.

    The champion is trained on a few mentions only, because its speed is that of its size. The entities have the tokens
    of their texts, and random vectors of length 1.
    """
    store = LocalStore(work / "store")
    if data is None or model is None:
        make_sample_inputs(str(work / "inputs"))
    few = {"max_mentions_per_world": 6, "num_train_epochs": 1, "top_k": candidates, "device": "cpu"}
    given = {
        "source": str((data or work / "inputs" / ARCHIVE).absolute()),
        "bert_model": str((model or work / "inputs" / MODEL).absolute()),
    }
    run_pipeline(f"{store.address}/runs/bench", build_recipe("recommended", few, given, settings))
    models = LinkerModels.of_champion(store, work / "cache")
    base = KnowledgeBase.read(store, KB)
    if base.exists and base.head.entities == entities:
        return
    with patch.object(entity_encoding, "encode_table", _encodes_at_random):
        build(store, KB, random_entities(range(entities), _WORDS), encoding_of(models))


def write_requests(path: Path, entities: int, count: int, modes: Sequence[LinkMode]) -> None:
    """Write bodies of requests, one a line, each with one mention: the title of an entity in a random text.

    Args:
        path: the file.
        entities: number of entities of the knowledge base.
        count: number of requests.
        modes: of the requests, in turn.
    """
    with path.open("w", encoding="utf-8") as file:
        for document, mode in zip(texts_with_mentions(entities, count), cycle(modes), strict=False):
            file.write(json.dumps({"kb": KB, "mode": mode, "documents": [document]}) + "\n")


def texts_with_mentions(entities: int, count: int, seed: int = 0) -> Iterator[dict[str, object]]:
    """Yield random texts with one mention each: the title of an entity of the knowledge base.

    Args:
        entities: number of entities of the knowledge base.
        count: number of texts.
        seed: of the chosen entities, and of the texts around them.
    """
    first = _FIRST_TEXT + seed * count
    numbers = np.random.default_rng(seed).integers(entities, size=count).tolist()
    for number, around in zip(numbers, random_entities(range(first, first + count), _WORDS), strict=True):
        (entity,) = random_entities(range(number, number + 1), _WORDS)
        yield _document(entity, around)


def another_champion(store: Store, cache: Path) -> Champion:
    """Return a champion with the same models in artifacts of other names, which a service loads anew."""
    champion = read_champions(store).champion
    calibrated = LinkerModels.of_champion(store, cache).calibrated
    assert champion is not None
    assert calibrated is not None
    folder = artifact_folder("calibrate", "b" * 64)
    attempt = Attempt(store, folder)
    for file in calibrated.manifest.files:
        attempt.add(file, calibrated.path(file))
    attempt.commit(calibrated.manifest.model_dump(exclude={"files"}) | {"fingerprint": "b" * 64})
    return champion.model_copy(update={"calibration": folder, "run": "another"})


def _document(entity: Document, around: Document) -> dict[str, object]:
    words = around.text.split()
    left = " ".join(words[: len(words) // 2])
    text = f"{left} {entity.title} {' '.join(words[len(words) // 2 :])}"
    return {"text": text, "mentions": [{"start": len(left) + 1, "end": len(left) + 1 + len(entity.title)}]}


def _encodes_at_random(
    encoder: Encoder,
    table: TokenTable,
    batch_size: int,
    pad: int,  # noqa: ARG001
    placement: Placement,  # noqa: ARG001
    path: Path,
    counted: Callable[[int], None],
    dtype: VectorDtype = "float32",
    filled: Iterable[int] = (),
    is_part: bool = False,  # noqa: ARG001
) -> None:
    """Write a random vector for each entity, like :func:`~zeshel_tasks.evaluation.encoding.encode_table`."""
    out, random = new_array(path, dtype, (len(table), encoder.dimension)), np.random.default_rng(0)
    for _ in filled:
        pass
    for rows in _slices(len(table), batch_size):
        vectors = random.standard_normal(out[rows].shape, dtype=np.float32)
        out[rows] = storable(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype)
        counted(len(vectors))
    out.flush()


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
