"""The whole recipe on worlds with fewer entities than requested candidates works as documented."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bad_input.builders import archive_of
from tests.bad_input.command import Ended, assert_refused, run
from tests.support.data_set_files import DataSetFiles, document, mention
from tests.support.faults import Fault
from tests.support.finished import manifest_of
from zeshel_tasks.errors import EXIT_DATA
from zeshel_tasks.store import open_run

Capture = pytest.CaptureFixture[str]
Pipeline = Callable[..., Ended]

MENTIONS = 2  # of each split, by DataSetFiles
PAGES = 3  # of each world


@pytest.fixture
def data_set(tmp_path: Path) -> DataSetFiles:
    return DataSetFiles(tmp_path / "zeshel")


@pytest.fixture
def pipeline(data_set: DataSetFiles, golden: Path, tmp_path: Path, capsys: Capture) -> Pipeline:
    """Runs all stages on the data set, without training steps."""

    def pipeline(**settings: object) -> Ended:
        archive = tmp_path / "zeshel.tar"
        root = data_set.write()
        files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.json")}
        archive.write_bytes(archive_of(files))
        given: dict[str, object] = {
            "source": archive, "bert_model": golden / "bert", "num_train_epochs": 0, "max_context_length": 16,
            "max_cand_length": 16, "max_seq_length": 32, **settings,
        }  # fmt: skip
        flags = [f"--{name}={value}" for name, value in given.items()]
        return run(["pipeline", "--run", address(tmp_path), "--preset", "smoke", *flags], capsys)

    return pipeline


def address(folder: Path) -> str:
    return str(folder / "store" / "runs" / "r")


def metrics(folder: Path, name: str) -> dict[str, Any]:
    return manifest_of(open_run(address(folder)), name).metrics


def candidates(folder: Path, split: str) -> np.ndarray[Any, Any]:
    path = open_run(address(folder)).artifact(f"eval-biencoder-{split}", folder / "cache").path("candidates.npy")
    found: np.ndarray[Any, Any] = np.load(path)
    return found


@pytest.mark.parametrize("top_k", [2, 3, 64])
def test_rows_are_padded_where_world_has_too_few_entities(
    pipeline: Pipeline, tmp_path: Path, fault: Fault, top_k: int
) -> None:
    fault("input: more or fewer candidates than entities")
    ended = pipeline(top_k=top_k)
    assert (ended.code, ended.errors) == (0, [])
    for split in ("train", "valid", "test"):
        found = candidates(tmp_path, split)
        assert found.shape == (MENTIONS, top_k)
        for row in found:
            there = row[row >= 0]
            assert len(there) == len(set(there.tolist())) == min(top_k, PAGES)
            assert set(row[len(there) :].tolist()) <= {-1}
        assert metrics(tmp_path, f"eval-biencoder-{split}")["mentions"] == MENTIONS
    accuracy = metrics(tmp_path, "eval-crossencoder-test")
    assert accuracy["mentions"] == MENTIONS
    if top_k >= PAGES:
        assert accuracy["retrieved"] == MENTIONS, "where all are candidates, the gold is one of them"


def test_single_entity_world_has_perfect_accuracy(
    pipeline: Pipeline, data_set: DataSetFiles, tmp_path: Path, fault: Fault
) -> None:
    fault("input: more or fewer candidates than entities")
    text = document("cinder", 0)["text"]
    data_set.files["documents/cinder.json"] = [document("cinder", 0)]
    data_set.files["mentions/test.json"] = [
        mention("cinder", 0) | {"label_document_id": "cinder-0", "text": " ".join(text.split(" ")[7:9])}
    ]
    ended = pipeline(top_k=16)
    assert (ended.code, ended.errors) == (0, [])
    parts = metrics(tmp_path, "fuse")["splits"]["test"]
    assert all(part["unnormalized_accuracy"] == {"micro": 1.0, "macro": 1.0} for part in parts.values())


def not_retrieved(folder: Path, split: str) -> list[int]:
    """Returns the page of each mention that is not among its candidates, which are all pages but one."""
    found: list[int] = []
    for row in candidates(folder, split):
        (missing,) = set(range(PAGES)) - set(row.tolist())
        found.append(missing)
    return found


def test_split_without_retrieved_golds_has_no_normalized_accuracy(
    pipeline: Pipeline, data_set: DataSetFiles, tmp_path: Path, fault: Fault
) -> None:
    """With two candidates of three per mention, the gold is not retrieved."""
    fault("input: no gold among the candidates")
    assert pipeline(top_k=2).code == 0
    for line, gold in zip(data_set.files["mentions/test.json"], not_retrieved(tmp_path, "test"), strict=True):
        line["label_document_id"] = f"cinder-{gold}"
    ended = pipeline(top_k=2)
    assert (ended.code, ended.errors) == (0, [])
    accuracy = metrics(tmp_path, "eval-crossencoder-test")
    assert (accuracy["retrieved"], accuracy["normalized_accuracy"]["micro"]) == (0, None)
    parts = metrics(tmp_path, "fuse")["splits"]["test"]
    assert parts["crossencoder"].items() <= accuracy.items()
    assert all(part["unnormalized_accuracy"]["micro"] == 0 for part in parts.values())
    predictions = open_run(address(tmp_path)).artifact("fuse", tmp_path / "cache").path("test/predictions.jsonl")
    lines = predictions.read_text().splitlines()
    assert [json.loads(line)["gold_rank"] for line in lines] == [None, None]


@pytest.mark.parametrize("split", ["train", "valid"])
def test_training_needs_retrieved_golds_but_validation_does_not(
    pipeline: Pipeline, data_set: DataSetFiles, tmp_path: Path, fault: Fault, split: str
) -> None:
    """Then no mention can be trained on, and every mention counts as wrong in validation."""
    fault("input: no gold among the candidates")
    assert pipeline(top_k=2, hybrid=False).code == 0
    world, file = {"train": ("aster", "train"), "valid": ("brine", "val")}[split]
    for line, gold in zip(data_set.files[f"mentions/{file}.json"], not_retrieved(tmp_path, split), strict=True):
        line["label_document_id"] = f"{world}-{gold}"
    if split == "valid":
        other = candidates(tmp_path, "train")[:, 0]
        for row, line in enumerate(data_set.files["mentions/train.json"]):
            line["label_document_id"] = f"aster-{other[row]}"
    ended = pipeline(top_k=2, hybrid=False, **{"train_crossencoder.num_train_epochs": 1})
    if split == "train":
        assert_refused(ended, EXIT_DATA, "nothing to train on: no train mention has its gold among its candidates")
    else:
        assert (ended.code, ended.errors) == (0, [])
        assert metrics(tmp_path, "train-crossencoder")["valid_unnormalized_accuracy"] == 0


def test_single_mention_per_split_is_enough(
    pipeline: Pipeline, data_set: DataSetFiles, tmp_path: Path, fault: Fault
) -> None:
    fault("input: more or fewer candidates than entities")
    for file in ("train", "val", "test"):
        del data_set.files[f"mentions/{file}.json"][1:]
    ended = pipeline(top_k=4, num_train_epochs=1)
    assert (ended.code, ended.errors) == (0, [])
    assert metrics(tmp_path, "train-biencoder")["mentions"] == 1


def test_mention_longer_than_context_window_passes_all_stages(
    pipeline: Pipeline, data_set: DataSetFiles, tmp_path: Path, fault: Fault
) -> None:
    fault("input: long mention")
    text = " ".join(f"word{number}" for number in range(300))
    data_set.files["documents/cinder.json"][0]["text"] = f"before {text} after"
    data_set.files["mentions/test.json"][0] |= {"start_index": 1, "end_index": 300, "text": text}
    ended = pipeline(top_k=4, num_train_epochs=1)
    assert (ended.code, ended.errors) == (0, [])
    assert metrics(tmp_path, "eval-crossencoder-test")["mentions"] == MENTIONS


def test_control_characters_and_markers_pass_all_stages(
    pipeline: Pipeline, data_set: DataSetFiles, tmp_path: Path, fault: Fault
) -> None:
    fault("input: strange texts")
    strange = ["\x00\x1b[2J\u202e", "", "[unused0] [SEP] [PAD] <script>alert(1)</script> {{ 7 * 7 }}"]
    for world in ("aster", "brine", "cinder"):
        for line, text in zip(data_set.files[f"documents/{world}.json"], strange, strict=True):
            line["title"] = text
    for file in ("train", "val", "test"):
        data_set.files[f"mentions/{file}.json"][0] |= {"category": strange[2], "mention_id": strange[0]}
    ended = pipeline(top_k=4, num_train_epochs=1)
    assert (ended.code, ended.errors) == (0, [])
    html = Path(address(tmp_path), "report", "index.html").read_text()
    assert "<script>alert" not in html
