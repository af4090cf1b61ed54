"""What a pretrained model's README states about its making."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import boto3
import pytest

from tests.download.file_server import status
from tests.download.hub_server import HubServer, model
from zeshel_tasks.download.hub import cached, snapshot_of
from zeshel_tasks.download.model_files import model_origin
from zeshel_tasks.download.stated import MAX_README_BYTES, StatedOrigin, stated_origin
from zeshel_tasks.location import model_location
from zeshel_tasks.store import LocalStore

NOTHING = StatedOrigin()
CARD = """---
language: en
license: apache-2.0
datasets:
- bookcorpus
- wikipedia
base_model: [google-bert/bert-base-uncased]
model-index:
- name: x
  results: [{datasets: [mteb]}]
---

# A model

license: not this one
"""


def front(metadata: str) -> str:
    return f"---\n{metadata}\n---\n# A model\n"


def test_metadata_of_a_model_card() -> None:
    assert stated_origin(CARD) == StatedOrigin(
        license="apache-2.0", datasets=("bookcorpus", "wikipedia"), base_models=("google-bert/bert-base-uncased",)
    )
    assert stated_origin("\ufeff" + CARD.replace("\n", "\r\n")) == stated_origin(CARD)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("license: other\nlicense_name: my-own", StatedOrigin(license="my-own")),
        ("datasets: wikipedia", StatedOrigin(datasets=("wikipedia",))),
        ("datasets:\n  - a\n  - 3\n  - {b: c}\n  - ' '\n  - [d]", StatedOrigin(datasets=("a",))),
        ("license: [mit, apache-2.0]", StatedOrigin(license="mit, apache-2.0")),
        ("license: 3\ndatasets: {a: b}\nbase_model: true", NOTHING),
        ("datasets: [a\nlicense: mit", NOTHING),
        ("license: mit\nlicense: apache-2.0", NOTHING),
        ("- license: mit", NOTHING),
        ("datasets: !!python/object/apply:os.system [touch]", NOTHING),
        pytest.param(f"datasets: {'[' * 1000}", NOTHING, id="deep"),
        pytest.param(f"datasets: {'x' * 70_000}", NOTHING, id="long"),
        ("tags: [x]", NOTHING),
    ],
)
def test_what_cannot_be_read_is_not_stated(metadata: str, expected: StatedOrigin) -> None:
    assert stated_origin(front(metadata)) == expected


@pytest.mark.parametrize("readme", ["", "# A model", "---", "---\nlicense: mit", "text\n---\nlicense: mit\n---"])
def test_readme_without_metadata(readme: str) -> None:
    assert stated_origin(readme) == NOTHING


def test_metadata_with_thousands_of_results_is_read() -> None:
    results = "\n".join(f"  - task: {number}" for number in range(10_000))
    assert stated_origin(front(f"model-index:\n{results}\nlicense: mit")) == StatedOrigin(license="mit")


def test_names_are_short_lines() -> None:
    names = ", ".join(f'"\\e[2J{number}\\n{"x" * 200}"' for number in range(60))
    found = stated_origin(front(f"datasets: [{names}]")).datasets
    assert len(found) == 50
    assert found[0] == "\\x1b[2J0\\n" + "x" * 94 + "… (206 characters)"


def test_local_model(golden: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(golden / "bert", tmp_path / "bert")
    location = model_location(str(folder))
    assert model_origin(location, tmp_path) == NOTHING
    (folder / "README.md").write_bytes(CARD.replace("bookcorpus", "b\udcff").encode(errors="surrogateescape"))
    assert model_origin(location, tmp_path).datasets == ("b\ufffd", "wikipedia")
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()
    assert model_origin(location, tmp_path) == NOTHING


def test_model_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    location = model_location(f"s3://{bucket}/bert")
    assert model_origin(location, tmp_path) == NOTHING
    boto3.client("s3").put_object(Bucket=bucket, Key="bert/README.md", Body=CARD.encode())
    assert model_origin(location, tmp_path) == stated_origin(CARD)


def test_model_on_the_hub(hub: HubServer, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(model(), snapshot_of(model(), store))
    hub.files["README.md"] = CARD.encode() + b"x" * 2 * MAX_README_BYTES
    assert model_origin(model(), tmp_path) == stated_origin(CARD)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert model_origin(model(), tmp_path) == NOTHING


def test_hub_without_a_readme_states_nothing(
    hub: HubServer, store: LocalStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cached(model(), snapshot_of(model(), store))
    hub.answer_to["README.md"] = status(503)
    assert model_origin(model(), tmp_path) == NOTHING
    del hub.answer_to["README.md"], hub.files["README.md"]
    assert model_origin(model(), tmp_path) == NOTHING
    assert caplog.text.count("no README.md was read") == 2
