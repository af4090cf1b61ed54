"""``zeshel export --format sentence-transformers``: the models of a finished run, their card, and the push."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from tests.export.push_server import TOKEN, PushServer, running_push_server
from tests.support.finished import copy_of, manifest_of, record_of
from zeshel_tasks.champion.champions import KEY
from zeshel_tasks.commands.export import MARKER, export_models
from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.export import models
from zeshel_tasks.export.folders import CANDIDATE_ENCODER, CROSS_ENCODER, MENTION_ENCODER
from zeshel_tasks.export.model_card import PLACE, model_card
from zeshel_tasks.export.source import Source
from zeshel_tasks.linking.models import LinkerModels
from zeshel_tasks.stages.inputs import candidate_encodings, world_documents
from zeshel_tasks.store import Artifact, Run
from zeshel_tasks.store.artifacts import manifest_key


@pytest.fixture(scope="module")
def out(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported run."""
    out = tmp_path_factory.mktemp("exported") / "linker"
    export_models(out, run=finished_run.address, store=None)
    return out


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[PushServer]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with running_push_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_vectors_are_those_that_the_evaluation_searched(
    library: Any, out: Path, finished_run: Run, tmp_path: Path
) -> None:
    evaluated = finished_run.artifact("eval-biencoder-test", tmp_path)
    downloaded = finished_run.artifact("download", tmp_path)
    encoder = library.SentenceTransformer(str(out / CANDIDATE_ENCODER), device="cpu")
    for world, encodings in candidate_encodings(evaluated, tmp_path).items():
        assert encodings is not None
        texts = [f"{document.title} [unused2] {document.text}" for document in world_documents(downloaded, world)]
        vectors = np.load(encodings.path("vectors.npy"))
        np.testing.assert_allclose(encoder.encode(texts), vectors, atol=1e-5, rtol=1e-5)


def test_scores_are_those_that_the_evaluation_kept(library: Any, out: Path, finished_run: Run, tmp_path: Path) -> None:
    names = ("download", "convert", "eval-biencoder-test", "eval-crossencoder-test")
    downloaded, converted, retrieved, scored = (finished_run.artifact(name, tmp_path) for name in names)
    candidates, scores = np.load(retrieved.path("candidates.npy")), np.load(scored.path("scores.npy"))
    encoder = library.CrossEncoder(str(out / CROSS_ENCODER), trust_remote_code=True, device="cpu")
    for row, line in enumerate(converted.path("test.jsonl").read_text().splitlines()[::4]):
        mention = json.loads(line)
        text = f"{mention['context_left']} [unused0] {mention['mention']} [unused1] {mention['context_right']}"
        entities = list(world_documents(downloaded, mention["world"]))
        chosen = [entities[number] for number in candidates[4 * row, :8]]
        pairs = [(text, f"{entity.title} [unused2] {entity.text}") for entity in chosen]
        np.testing.assert_allclose(encoder.predict(pairs), scores[4 * row, :8], atol=1e-5, rtol=1e-5)


def test_example_of_the_model_card_runs(library: Any, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    assert PLACE in example
    exec(example.replace("path/to/this/folder", str(out)), {})
    assert capsys.readouterr().out.startswith("('Bat")


def test_model_card_has_the_metrics_of_the_manifests(out: Path, finished_run: Run) -> None:
    card = ModelCard((out / "README.md").read_text())
    measured = {(one.dataset_split, one.metric_name): one.metric_value for one in card.data.eval_results or []}
    for split in ("valid", "test"):
        linked = manifest_of(finished_run, "fuse").metrics["splits"][split]
        retrieved = manifest_of(finished_run, f"eval-biencoder-{split}").metrics["methods"]["biencoder"]["micro"]
        for name, part in (("cross-encoder", "crossencoder"), ("whole linker", "linker")):
            for kind in ("normalized", "unnormalized"):
                expected = linked[part][f"{kind}_accuracy"]["micro"]
                assert measured.pop((split, f"{kind} accuracy, {name}")) == expected
        assert measured.pop((split, "recall@1, bi-encoder")) == retrieved["1"]
        assert measured.pop((split, "recall@100, bi-encoder")) == retrieved["100"]
    assert not measured


def test_model_card_says_how_the_models_were_made(out: Path, finished_run: Run) -> None:
    text = (out / "README.md").read_text()
    made = manifest_of(finished_run, "train-crossencoder")
    for fact in (
        *(f"{name} {number}" for name, number in made.versions.items()),
        made.fingerprint,
        manifest_of(finished_run, "train-biencoder").fingerprint,
        manifest_of(finished_run, "download").metrics["sources"][0]["sha256"],
        "| `learning_rate` | 0.0002 | 0.0002 |",
        "| train | 24 | 4 |",
        "zeshel.tar.bz2",
    ):
        assert fact in text
    assert "/" + str(Path(finished_run.store.address).relative_to("/")) not in text, "no paths of this machine"
    assert "golden" not in text


def test_model_card_says_what_the_pretrained_model_states(finished_run: Run, tmp_path: Path) -> None:
    source = Source.of_run(finished_run.address, tmp_path)
    assert "| trained on, as it states | not stated | not stated |" in card_of(source)
    stated = {"license": "a`b|c", "datasets": ["wikipedia"], "base_models": []}
    vectors = {"pooling": "cls", "similarity": "dot", "mention_prompt": "query: "}
    made = source.biencoder.manifest
    made = made.model_copy(update={"metrics": {**made.metrics, "pretrained": stated, "vectors": vectors}})
    biencoder = Artifact(finished_run.store, "x", made, tmp_path)
    changed = card_of(dataclasses.replace(source, biencoder=biencoder))
    assert "| trained on, as it states | `wikipedia` | not stated |" in changed
    assert "| licence, as it states | `a'b\\|c` | not stated |" in changed
    assert "put a prompt of their own before each text" in changed


def card_of(source: Source) -> str:
    return model_card(source, license_id="unknown", candidates_run_code=False)


def test_licence_is_unknown_unless_it_is_stated(out: Path, finished_run: Run, tmp_path: Path) -> None:
    assert ModelCard((out / "README.md").read_text()).data.license == "unknown"
    export_models(tmp_path / "x", run=finished_run.address, store=None, license_id="cc-by-sa-4.0")
    text = (tmp_path / "x" / "README.md").read_text()
    assert ModelCard(text).data.license == "cc-by-sa-4.0"
    assert "The licence of these models is `cc-by-sa-4.0`." in text


def test_champion_is_exported_from_its_store(out: Path, finished_run: Run, tmp_path: Path) -> None:
    export_models(tmp_path / "linker", run=None, store=finished_run.store.address)
    assert files_of(tmp_path / "linker") == files_of(out)


def test_champion_outlives_its_evaluations(finished_run: Run, tmp_path: Path) -> None:
    """A cleanup keeps the models of a champion, not those from which they were made."""
    store = copy_of(finished_run, tmp_path).store
    for name in ("download", "convert", "eval-biencoder-test"):
        folder = record_of(finished_run, name).artifact
        (Path(store.address) / manifest_key(folder)).unlink()
    export_models(tmp_path / "linker", run=None, store=store.address)
    text = (tmp_path / "linker" / "README.md").read_text()
    assert "normalized accuracy, whole linker" in text
    assert "| train | 24 | 4 |" not in text


def test_store_without_champion_is_refused(finished_run: Run, tmp_path: Path) -> None:
    run = copy_of(finished_run, tmp_path)
    (Path(run.store.address) / KEY).unlink()
    with pytest.raises(ConfigError, match="--store: expected a store with a champion, got none at"):
        export_models(tmp_path / "out", run=None, store=run.store.address)


def test_champion_whose_model_is_gone_is_refused(finished_run: Run, tmp_path: Path) -> None:
    run = copy_of(finished_run, tmp_path)
    folder = record_of(run, "train-biencoder").artifact
    (Path(run.store.address) / manifest_key(folder)).unlink()
    with pytest.raises(ConfigError, match="expected a champion whose models are in the store"):
        export_models(tmp_path / "out", run=None, store=run.store.address)


def test_run_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a finished stage"):
        export_models(tmp_path / "out", run=str(tmp_path / "runs" / "r1"), store=None)
    assert not (tmp_path / "out").exists()


def test_champion_of_an_earlier_version_has_no_evaluation(finished_run: Run, tmp_path: Path) -> None:
    models_ = LinkerModels.of_champion(finished_run.store, tmp_path)
    source = Source._of(dataclasses.replace(models_, fitted=None, fused=None))
    text = models.model_card(source, license_id="mit", candidates_run_code=False)
    assert "The store has no evaluation of these models." in text
    assert not ModelCard(text).data.eval_results


def test_folder_with_other_files_is_refused(finished_run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(ConfigError, match="--out: expected a new or empty directory"):
        export_models(tmp_path, run=finished_run.address, store=None)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_export_that_fails_leaves_and_pushes_nothing(
    finished_run: Run, tmp_path: Path, hub: PushServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "write_crossencoder", fail)
    with pytest.raises(OSError, match="No space left"):
        export_models(tmp_path / "out", run=finished_run.address, store=None, push="me/linker")
    assert not list(tmp_path.iterdir())
    assert not hub.requests


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_push_that_failed_is_repeated_with_the_folder_that_is_there(
    out: Path, finished_run: Run, tmp_path: Path, hub: PushServer
) -> None:
    hub.failures["/commit/"] = [503]
    folder = tmp_path / "linker"
    with pytest.raises(StoreUnavailable, match="the hub answered 503"):
        export_models(folder, run=finished_run.address, store=None, push="me/linker")
    (folder / "README.md").write_text((folder / "README.md").read_text().replace("# Entity linker", "# My linker"))
    export_models(folder, run=finished_run.address, store=None, push="me/linker")
    pushed = hub.repositories["me/linker"]
    assert pushed.keys() - {".gitattributes"} == files_of(out).keys()
    assert b'folder = Path(snapshot_download("me/linker"))' in pushed["README.md"]
    assert b"# My linker" in pushed["README.md"]
    for name in (CANDIDATE_ENCODER, MENTION_ENCODER, CROSS_ENCODER):
        weights = f"{name}/model.safetensors"
        assert pushed[weights] == (out / weights).read_bytes()
    assert json.loads(pushed[MARKER]) == Source.of_run(finished_run.address, tmp_path).identity


def test_push_takes_no_folder_of_other_models(finished_run: Run, tmp_path: Path, hub: PushServer) -> None:
    (tmp_path / MARKER).write_text(json.dumps({"biencoder": "f" * 64, "crossencoder": "f" * 64}))
    with pytest.raises(ConfigError, match="--out: expected a new or empty directory"):
        export_models(tmp_path, run=finished_run.address, store=None, push="me/linker")
    assert not hub.requests
