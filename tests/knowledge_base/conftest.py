"""A store with a champion whose bi-encoder is tiny, and what its knowledge bases have in common."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.store.wrapped import AgedStore
from zeshel_tasks.champion.champions import Champion, read_champions
from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.data.tokens import Tokens
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.knowledge_base import head
from zeshel_tasks.knowledge_base.head import Encoding
from zeshel_tasks.models.biencoder import new_biencoder, save_biencoder
from zeshel_tasks.models.tokenizer import load_tokens
from zeshel_tasks.store import Attempt, LocalStore, Store, artifact_folder
from zeshel_tasks.store.s3 import S3Store

Promote = Callable[[Store, str], Encoding]


def entity(number: int, text: str = "") -> Document:
    text = text or "the sword of the old beast " * (1 + number % 5)
    return Document(f"id{number}", f"Beast {number}", f"{text} {number}", aliases=(f"the {number}th",))


def entities(*numbers: int) -> list[Document]:
    return [entity(number) for number in numbers]


def encoding_by(fingerprint: str) -> Encoding:
    return Encoding(
        biencoder=artifact_folder("train-biencoder", fingerprint),
        candidate_form="title_and_text",
        precision="fp32",
        vector_dtype="float32",
    )


@pytest.fixture(autouse=True)
def _segments_of_four_entities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "SEGMENT_ENTITIES", 4)


@pytest.fixture(scope="session")
def model(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bi-encoder."""
    torch.manual_seed(0)
    config = TrainBiencoderConfig(max_context_length=16, max_cand_length=12)
    biencoder, settings = new_biencoder(golden / "bert", config)
    tokens: Tokens = load_tokens(golden / "bert", lowercase=True)
    folder = tmp_path_factory.mktemp("biencoder")
    save_biencoder(biencoder, settings, tokens.tokenizer, folder)
    return folder


@pytest.fixture
def promote(model: Path) -> Promote:
    """Makes the tiny bi-encoder, under a fingerprint, the champion's."""

    def make(store: Store, fingerprint: str) -> Encoding:
        folder = artifact_folder("train-biencoder", fingerprint)
        attempt = Attempt(store, folder)
        attempt.add_directory("model", model)
        attempt.commit(_facts("train-biencoder", fingerprint))
        crossencoder = artifact_folder("train-crossencoder", fingerprint)
        Attempt(store, crossencoder).commit(_facts("train-crossencoder", fingerprint))
        champion = Champion(run="r", biencoder=folder, crossencoder=crossencoder, promoted_at="now", decision={})
        assert read_champions(store).promote(champion)
        return encoding_by(fingerprint)

    return make


@pytest.fixture
def store(tmp_path: Path, promote: Promote) -> AgedStore:
    """A local store with a champion."""
    store = AgedStore(LocalStore(tmp_path / "store"))
    promote(store, "a" * 64)
    return store


@pytest.fixture
def encoding(store: AgedStore) -> Encoding:
    """What encodes entities in the store."""
    return encoding_by("a" * 64)


@pytest.fixture
def s3_store(bucket: str, promote: Promote) -> Iterator[Store]:
    """A store in S3 with a champion."""
    store = S3Store(bucket, "some/prefix")
    promote(store, "a" * 64)
    return store


def _facts(stage: str, fingerprint: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "split": None,
        "fingerprint": fingerprint,
        "package_version": "1",
        "config": {},
        "inputs": {},
        "metrics": {},
        "started_at": "",
        "finished_at": "",
        "wall_seconds": 0,
        "peak_memory_mb": 0,
        "peak_gpu_memory_mb": None,
        "device": "cpu",
        "versions": {},
        "hardware": {},
    }
