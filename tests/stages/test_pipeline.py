"""The whole recipe, from the archive to the report, on both stores."""

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from tests.support.finished import NAMES, STEPS, manifest_of, record_of
from zeshel_tasks.commands.pipeline import run_pipeline
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.data.json_lines import read_json_lines
from zeshel_tasks.linking.fusion import Fusion, best_candidates
from zeshel_tasks.models.batches import token_batch
from zeshel_tasks.models.biencoder import load_biencoder, mention_tower
from zeshel_tasks.models.crossencoder import load_crossencoder
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.report.results_table import results_table
from zeshel_tasks.store import Artifact, Run, open_run
from zeshel_tasks.store.artifacts import read_manifest

ENTITIES = 80
SPLITS = {"train": 4, "valid": 2, "test": 2}  # worlds
# Both runs are made on one worker. A test asks for them by name, so tests/support/scheduling.py does not see which one.
pytestmark = pytest.mark.xdist_group("finished_run")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".t7", ".joblib")


@pytest.fixture(scope="module")
def s3_run(raw_archive: Path, golden: Path, s3_endpoint: str) -> Run:
    """A run of all stages with data set, model and store on S3. The bi-encoder retrieves alone and misses golds."""
    client = boto3.client("s3")
    client.create_bucket(Bucket="pipeline")
    client.upload_file(str(raw_archive), "pipeline", "data/zeshel.tar.bz2")
    for path in (golden / "bert").iterdir():
        client.upload_file(str(path), "pipeline", f"models/tiny/{path.name}")
    overrides = {
        "source": "s3://pipeline/data/zeshel.tar.bz2",
        "bert_model": "s3://pipeline/models/tiny",
        "max_context_length": 32,
        "max_cand_length": 32,
        "max_seq_length": 64,
        "num_train_epochs": 1,
        "max_mentions_per_world": 15,
        "top_k": 16,
        "hybrid": False,
    }
    address = "s3://pipeline/store/runs/first"
    run_pipeline(address, build_recipe("smoke", overrides))
    return open_run(address)


@pytest.fixture(params=["local", "s3"])
def run(request: pytest.FixtureRequest) -> Run:
    run: Run = request.getfixturevalue({"local": "finished_run", "s3": "s3_run"}[request.param])
    return run


def mean(values: list[float]) -> Any:
    return pytest.approx(sum(values) / len(values))


def test_pipeline_has_fifteen_steps() -> None:
    assert NAMES == [
        "download", "convert", "train-biencoder", "fit-retrieval",
        "eval-biencoder-train", "eval-biencoder-valid", "eval-biencoder-test",
        "train-crossencoder", "eval-crossencoder-valid", "eval-crossencoder-test",
        "fuse", "calibrate", "compare", "report", "promote",
    ]  # fmt: skip


def test_every_step_has_a_record_and_a_committed_manifest(run: Run) -> None:
    for name in NAMES:
        record, found = record_of(run, name), manifest_of(run, name)
        assert (record.stage, record.reused) == (name, False)
        assert record.fingerprint == found.fingerprint
        assert found.wall_seconds >= 0
        assert found.peak_memory_mb > 0
        assert found.device


def test_each_manifest_has_the_fingerprints_of_its_inputs(run: Run) -> None:
    for stage, split in STEPS:
        inputs = manifest_of(run, stage.name_for(split)).inputs
        for name in (pattern.format(split=split) for pattern in stage.inputs):
            assert inputs[name] == manifest_of(run, name).fingerprint


def test_download_counts_worlds_documents_and_mentions(run: Run) -> None:
    metrics = manifest_of(run, "download").metrics
    assert (metrics["worlds"], metrics["documents"]) == (8, 8 * ENTITIES)
    assert metrics["mentions"] == {split: 30 * worlds for split, worlds in SPLITS.items()}


def test_mention_cap_is_applied_and_reported(run: Run, tmp_path: Path) -> None:
    found = manifest_of(run, "convert")
    cap = found.config["max_mentions_per_world"]
    assert found.metrics["capped"] is True
    assert found.metrics["mentions"] == {split: cap * worlds for split, worlds in SPLITS.items()}
    for split, worlds in SPLITS.items():
        lines = read_json_lines(run.artifact("convert", tmp_path).path(f"{split}.jsonl"))
        assert Counter(line["world"] for line in lines) == dict.fromkeys(found.metrics["worlds"][split], cap)
        assert len(found.metrics["worlds"][split]) == worlds
        assert all(figures["mentions_in_data_set"] == 30 for figures in found.metrics["worlds"][split].values())


@pytest.mark.parametrize("stage", ["train-biencoder", "train-crossencoder"])
def test_training_reports_metrics_and_curve(run: Run, stage: str, tmp_path: Path) -> None:
    metrics = manifest_of(run, stage).metrics
    assert metrics["best_epoch"] == 1
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [1]
    measure = {"train-biencoder": "valid_recall", "train-crossencoder": "valid_accuracy"}[stage]
    assert 0 <= metrics[measure] <= 1
    assert metrics["steps"] > 0
    assert metrics["mentions_per_second"] > 0
    curve = list(read_json_lines(run.artifact(stage, tmp_path).path("curve.jsonl")))
    losses = [point["loss"] for point in curve if "loss" in point]
    assert losses
    assert all(0 < loss < 20 for loss in losses)
    assert [point[measure] for point in curve if measure in point] == [metrics[measure]]


def test_crossencoder_drops_mentions_whose_gold_was_not_retrieved(run: Run) -> None:
    metrics, evaluated = manifest_of(run, "train-crossencoder").metrics, manifest_of(run, "eval-biencoder-train")
    retrieval = evaluated.metrics
    retrieved = retrieval["mentions"] * retrieval["recall"]["micro"][str(evaluated.config["top_k"])]
    assert metrics["mentions"] == pytest.approx(retrieved)
    assert metrics["mentions"] + metrics["dropped_mentions"] == retrieval["mentions"]
    assert metrics["valid_unnormalized_accuracy"] <= metrics["valid_accuracy"]


@pytest.mark.parametrize("split", SPLITS)
def test_recall_grows_with_k_and_averages_the_worlds(run: Run, split: str) -> None:
    found = manifest_of(run, f"eval-biencoder-{split}")
    metrics, worlds = found.metrics, list(found.metrics["worlds"].values())
    top_k = found.config["top_k"]
    ks = sorted({k for k in (1, 4, 8, 16, 32, 64) if k <= top_k} | {top_k})
    assert len(worlds) == SPLITS[split]
    assert metrics["mentions"] == sum(world["mentions"] for world in worlds)
    assert metrics["entities"] == SPLITS[split] * ENTITIES
    for recall in (*metrics["recall"].values(), *(world["recall"] for world in worlds)):
        assert [int(k) for k in recall] == ks
        assert list(recall.values()) == sorted(recall.values())
        assert 0 <= min(recall.values()) <= max(recall.values()) <= 1
    for k in map(str, ks):
        assert metrics["recall"]["macro"][k] == mean([world["recall"][k] for world in worlds])
        hits = sum(world["recall"][k] * world["mentions"] for world in worlds)
        assert metrics["recall"]["micro"][k] == pytest.approx(hits / metrics["mentions"])


@pytest.mark.parametrize("split", SPLITS)
def test_retrieved_candidates_are_ranked_and_padded_with_minus_one(run: Run, split: str, tmp_path: Path) -> None:
    name = f"eval-biencoder-{split}"
    found, files = manifest_of(run, name), run.artifact(name, tmp_path)
    top_k, mentions = found.config["top_k"], found.metrics["mentions"]
    candidates, scores, rank = (
        np.load(files.path(f"{array}.npy"), allow_pickle=False) for array in ("candidates", "scores", "gold_rank")
    )
    assert candidates.shape == scores.shape == (mentions, top_k)
    real = min(top_k, ENTITIES)
    assert np.all(candidates[:, real:] == -1)
    assert np.all(np.isneginf(scores[:, real:]))
    assert np.all((candidates[:, :real] >= 0) & (candidates[:, :real] < ENTITIES))
    assert all(len(set(row)) == real for row in candidates[:, :real].tolist())
    assert np.all(np.diff(scores[:, :real]) <= 0)
    labels = [line["label_id"] for line in read_json_lines(run.artifact("convert", tmp_path).path(f"{split}.jsonl"))]
    ranks = [row.index(label) if label in row else -1 for row, label in zip(candidates.tolist(), labels, strict=True)]
    assert rank.tolist() == ranks
    for k, value in found.metrics["recall"]["micro"].items():
        assert value == pytest.approx(np.mean((rank >= 0) & (rank < int(k))))


@pytest.mark.parametrize("split", ["valid", "test"])
def test_accuracy_agrees_with_retrieval_and_predictions(run: Run, split: str, tmp_path: Path) -> None:
    metrics = manifest_of(run, "fuse").metrics["splits"][split]["linker"]
    rank = np.load(run.artifact(f"eval-biencoder-{split}", tmp_path).path("gold_rank.npy"))
    path = run.artifact("fuse", tmp_path).path(f"{split}/predictions.jsonl")
    predictions = list(read_json_lines(path))
    correct = sum(prediction["correct"] for prediction in predictions)
    assert metrics["mentions"] == len(predictions) == len(rank)
    assert metrics["retrieved"] == int(np.sum(rank >= 0))
    assert metrics["unnormalized_accuracy"]["micro"] == pytest.approx(correct / len(rank))
    assert metrics["unnormalized_accuracy"]["micro"] <= metrics["retrieved"] / metrics["mentions"]
    assert metrics["normalized_accuracy"]["micro"] == pytest.approx(correct / metrics["retrieved"])
    for groups in (metrics["worlds"], metrics["categories"]):
        assert sum(group["mentions"] for group in groups.values()) == metrics["mentions"]
        assert sum(group["retrieved"] for group in groups.values()) == metrics["retrieved"]
    assert metrics["unnormalized_accuracy"]["macro"] == mean(
        [world["unnormalized_accuracy"] for world in metrics["worlds"].values()]
    )
    for prediction, gold in zip(predictions, rank.tolist(), strict=True):
        assert 0 <= prediction["predicted_id"] < ENTITIES
        assert prediction["correct"] == (prediction["predicted_id"] == prediction["label_id"])
        assert prediction["gold_rank"] == (None if gold < 0 else gold + 1)
        assert 0 < prediction["confidence"] <= 1


@pytest.mark.parametrize("split", ["valid", "test"])
def test_final_scores_match_candidates_and_predictions(run: Run, split: str, tmp_path: Path) -> None:
    retrieved, scored, fused = (
        run.artifact(name, tmp_path) for name in (f"eval-biencoder-{split}", f"eval-crossencoder-{split}", "fuse")
    )
    candidates = np.load(retrieved.path("candidates.npy"))
    parts = [np.load(files.path("scores.npy"), allow_pickle=False) for files in (scored, retrieved)]
    final = np.load(fused.path(f"{split}/scores.npy"), allow_pickle=False)
    for scores in (*parts, final):
        assert (scores.dtype, scores.shape) == (np.float32, candidates.shape)
        np.testing.assert_array_equal(np.isneginf(scores), candidates == -1)
        assert np.isfinite(scores[candidates != -1]).all()
    fusion = Fusion.model_validate_json(fused.path("fusion.json").read_bytes())
    np.testing.assert_array_equal(fusion.final_scores(*parts), final)
    best, confidence = best_candidates(final)
    predictions = list(read_json_lines(fused.path(f"{split}/predictions.jsonl")))
    assert candidates[np.arange(len(best)), best].tolist() == [line["predicted_id"] for line in predictions]
    assert confidence.tolist() == pytest.approx([line["confidence"] for line in predictions], abs=1e-6)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_linker_is_measured_beside_its_parts(run: Run, split: str) -> None:
    fused = manifest_of(run, "fuse").metrics
    parts = fused["splits"][split]
    crossencoder, recall = (manifest_of(run, f"eval-{part}-{split}").metrics for part in ("crossencoder", "biencoder"))
    assert parts["crossencoder"] == {name: crossencoder[name] for name in parts["crossencoder"]}
    for average in ("micro", "macro"):
        assert parts["retriever"]["unnormalized_accuracy"][average] == pytest.approx(recall["recall"][average]["1"])
    right = {name: part["unnormalized_accuracy"]["micro"] for name, part in parts.items()}
    if split == "valid":
        assert right["linker"] >= max(right["crossencoder"], right["retriever"])
    if fused["combines"] != "both":
        assert parts["linker"] == parts[fused["combines"]]


def test_only_the_s3_run_misses_some_golds(finished_run: Run, s3_run: Run) -> None:
    """Otherwise the tests above would not cover both cases."""
    every, some = (manifest_of(run, "eval-crossencoder-test").metrics for run in (finished_run, s3_run))
    assert every["retrieved"] == every["mentions"]
    assert 0 < some["retrieved"] < some["mentions"]


def test_report_is_in_the_folder_of_the_run(run: Run) -> None:
    page = run.store.get(f"runs/{run.run_id}/report/index.html")
    metrics = json.loads(run.store.get(f"runs/{run.run_id}/report/metrics.json") or b"")
    assert page is not None
    assert b"<svg" in page
    assert json.dumps(manifest_of(run, "eval-crossencoder-test").metrics["retrieved"]) in json.dumps(metrics)


def test_results_table_has_the_measured_values(run: Run) -> None:
    metrics = manifest_of(run, "report").metrics
    recall = manifest_of(run, "eval-biencoder-test").metrics["recall"]["micro"]
    parts = manifest_of(run, "fuse").metrics["splits"]["test"]
    crossencoder, accuracy = (parts[part]["unnormalized_accuracy"]["micro"] for part in ("crossencoder", "linker"))
    assert metrics["results"].keys() == {"train", "valid", "test"}
    lines = list(results_table(metrics))
    (test,) = [line.split() for line in lines if "test" in line]
    assert [test[index] for index in (5, 11, -2)] == [f"{rate:.2%}" for rate in (recall["1"], crossencoder, accuracy)]
    assert lines[-1] == "there is no champion to compare with"


def test_saved_models_open_with_transformers(run: Run, tmp_path: Path) -> None:
    towers = {
        "train-biencoder": ["context_encoder", "candidate_encoder"],
        "train-crossencoder": ["encoder"],
    }
    for stage, names in towers.items():
        directory = run.artifact(stage, tmp_path).directory("model")
        for name in names:
            tokenizer = AutoTokenizer.from_pretrained(directory / name)
            model = AutoModel.from_pretrained(directory / name)
            inputs = tokenizer("a mention in its context", return_tensors="pt")
            assert torch.isfinite(model(**inputs).last_hidden_state).all()


def test_saved_biencoder_reproduces_the_entity_vectors(finished_run: Run, tmp_path: Path) -> None:
    biencoder, settings, _ = load_biencoder(finished_run.artifact("train-biencoder", tmp_path).directory("model"))
    assert (settings.max_context_length, settings.max_cand_length) == (32, 32)
    evaluated = finished_run.artifact("eval-biencoder-test", tmp_path)
    folder = json.loads(evaluated.path("encodings.json").read_text())["grove"]
    manifest = read_manifest(finished_run.store, folder)
    assert manifest is not None
    files = Artifact(finished_run.store, folder, manifest, tmp_path)
    batch = token_batch(np.load(files.path("tokens.npy")), 0, torch.device("cpu"))
    with torch.no_grad():
        vectors = biencoder.eval().cand_encoder(batch)
    np.testing.assert_allclose(vectors.numpy(), np.load(files.path("vectors.npy")), atol=1e-5)
    load_crossencoder(finished_run.artifact("train-crossencoder", tmp_path).directory("model"))


def test_store_contains_no_pickles(finished_run: Run) -> None:
    keys = list(finished_run.store.keys(""))
    assert [key for key in keys if key.endswith(PICKLES)] == []
    assert any(key.endswith(".safetensors") for key in keys)
    for key in keys:
        data = finished_run.store.get(key) or b""
        assert not data.startswith(b"PK\x03\x04"), f"{key} is an archive as torch.save writes them"
        if not key.endswith((".safetensors", ".npy")):
            with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError)):
                pickle.loads(data)


def test_artifact_folders_contain_only_committed_files(run: Run) -> None:
    used = set()
    for key in run.store.keys("artifacts/"):
        if key.endswith("/manifest.json"):
            folder = key.removesuffix("/manifest.json")
            found = read_manifest(run.store, folder)
            assert found is not None
            used |= {key, *(f"{folder}/{entry.key}" for entry in found.files.values())}
    assert set(run.store.keys("artifacts/")) == used


def test_rerun_reuses_every_step_within_seconds(run: Run) -> None:
    settings = {stage.settings: manifest_of(run, stage.name_for(split)).config for stage, split in STEPS}
    recipe = Recipe.model_validate({"preset": "smoke", **settings})
    again = open_run(run.address.replace("first", "second"))
    run_pipeline(again.address, recipe)
    records = [record_of(again, name) for name in NAMES]
    assert [record.reused for record in records] == [True] * len(NAMES)
    assert sum(record.wall_seconds for record in records) < 15
    assert [again.manifest(name) for name in NAMES] == [run.manifest(name) for name in NAMES]
    report = json.loads(again.store.get("runs/second/report/metrics.json") or b"")
    assert (report["run"]["address"], report["run"]["wall_seconds"]) == (again.address, 0)
    assert "second" in [past["run"] for past in report["history"]]
    assert again.address.encode() in (again.store.get("runs/second/report/index.html") or b"")


def test_changed_report_setting_repeats_only_the_report(finished_run: Run, small_recipe: Recipe) -> None:
    recipe = small_recipe.model_copy(update={"report": small_recipe.report.model_copy(update={"num_mistakes": 1})})
    address = finished_run.address.replace("first", "one-mistake")
    run_pipeline(address, recipe)
    assert [name for name in NAMES if not record_of(open_run(address), name).reused] == ["report"]


def test_crossencoder_starts_from_the_biencoder(finished_run: Run, small_recipe: Recipe, tmp_path: Path) -> None:
    changed = small_recipe.train_crossencoder.model_copy(update={"from_biencoder": True, "num_train_epochs": 0})
    run = open_run(finished_run.address.replace("first", "from-the-bi-encoder"))
    run_pipeline(run.address, small_recipe.model_copy(update={"train_crossencoder": changed}))
    assert "bert_model" not in manifest_of(run, "train-crossencoder").inputs
    models = [run.artifact(stage, tmp_path).directory("model") for stage in ("train-biencoder", "train-crossencoder")]
    tower, encoder = (
        load_file(model / "model.safetensors") for model in (mention_tower(models[0]), models[1] / "encoder")
    )
    assert tower.keys() == encoder.keys()
    assert all(torch.equal(tower[name], encoder[name]) for name in tower)


def test_s3_inputs_are_identified_by_etag(s3_run: Run) -> None:
    assert manifest_of(s3_run, "train-biencoder").inputs["bert_model"].startswith("etag:")
    assert manifest_of(s3_run, "download").inputs["source"].startswith("etag:")
