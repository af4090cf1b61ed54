"""``zeshel export-blink`` writes the same files as BLINK, and a training can start from them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.finished import manifest_of, record_of
from zeshel_tasks.commands.export import export_blink
from zeshel_tasks.commands.pipeline import run_pipeline
from zeshel_tasks.config.biencoder import Pooling, Similarity
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.export.blink import _check_that_blink_has_no_prompts, _warn_of_differences, log
from zeshel_tasks.models.biencoder import BiencoderSettings
from zeshel_tasks.store import Artifact, Run, open_run
from zeshel_tasks.store.artifacts import read_manifest

WORLDS = {
    "train": ["aster", "brine", "cinder", "dapple"],
    "valid": ["ember", "fjord"],
    "test": ["grove", "harbor"],
}
LENGTH, TOP_K, ENTITIES = 32, 100, 80


@pytest.fixture(scope="module")
def exported(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "blink"
    with pytest.MonkeyPatch.context() as patched:
        warned: list[str] = []
        patched.setattr(log, "warning", lambda message, *_: warned.append(message))
        export_blink(finished_run.address, out)
    assert sum("hybrid retriever" in message for message in warned) == 3, "one for each split"
    return out


@pytest.fixture(scope="module")
def run_from_exported_weights(exported: Path, finished_run: Run, small_recipe: Recipe) -> Run:
    """A run of the recipe from the exported weights, without training."""
    starts = {
        "train_biencoder": {"biencoder_weights": str(exported / "biencoder" / "pytorch_model.bin")},
        "train_crossencoder": {"crossencoder_weights": str(exported / "crossencoder" / "pytorch_model.bin")},
    }
    updates = {
        stage: getattr(small_recipe, stage).model_copy(update={**weights, "num_train_epochs": 0})
        for stage, weights in starts.items()
    }
    address = finished_run.address.replace("first", "imported")
    run_pipeline(address, small_recipe.model_copy(update=updates))
    return open_run(address)


@pytest.mark.parametrize(
    ("pooling", "similarity", "warned"), [("cls", "dot", 0), ("mean", "dot", 1), ("cls", "cosine", 1)]
)
def test_export_warns_if_blink_would_score_differently(
    caplog: pytest.LogCaptureFixture, pooling: Pooling, similarity: Similarity, warned: int
) -> None:
    _warn_of_differences(
        BiencoderSettings(
            max_context_length=8, max_cand_length=8, lowercase=False, pull_from_layer=-1, out_dim=None,
            pooling=pooling, similarity=similarity,
        )
    )  # fmt: skip
    assert caplog.text.count("which BLINK's code would not compute") == warned
    assert caplog.text.count("was trained with lowercase false") == 1


def test_bi_encoder_with_a_prompt_is_refused() -> None:
    settings = BiencoderSettings(
        max_context_length=8, max_cand_length=8, lowercase=False, pull_from_layer=-1, out_dim=None,
        pooling="cls", similarity="dot",
    )  # fmt: skip
    _check_that_blink_has_no_prompts(settings)
    with pytest.raises(ConfigError, match=r"without prompts, .* got candidate_prompt 'passage: '"):
        _check_that_blink_has_no_prompts(settings.model_copy(update={"candidate_prompt": "passage: "}))


def read(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def names_and_shapes(weights: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items() if not name.endswith("position_ids")}


@pytest.mark.parametrize(("ours", "blinks"), [("biencoder", "bi"), ("crossencoder", "cross")])
def test_weights_have_blinks_names_and_shapes(exported: Path, golden: Path, ours: str, blinks: str) -> None:
    weights = read(exported / ours / "pytorch_model.bin")
    assert names_and_shapes(weights) == names_and_shapes(read(golden / blinks / "pytorch_model.bin"))
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())


def test_worlds_are_listed_by_index(exported: Path) -> None:
    assert json.loads((exported / "worlds.json").read_text()) == [*WORLDS["train"], *WORLDS["valid"], *WORLDS["test"]]


@pytest.mark.parametrize("split", WORLDS)
def test_exported_mentions_equal_those_of_convert(
    exported: Path, finished_run: Run, split: str, tmp_path: Path
) -> None:
    converted = finished_run.artifact("convert", tmp_path).path(f"{split}.jsonl")
    assert (exported / f"{split}.jsonl").read_bytes() == converted.read_bytes()


@pytest.mark.parametrize("split", WORLDS)
def test_candidate_pools_and_encodings_have_blinks_form(exported: Path, golden: Path, split: str) -> None:
    pools, encodings = (read(exported / f"{name}_{split}.pt") for name in ("cand_pool", "cand_enc"))
    blinks_pools, blinks_encodings = (read(golden / f"{name}_{split}.pt") for name in ("cand_pool", "cand_enc"))
    assert pools.keys() == encodings.keys() == blinks_pools.keys()
    for world in pools:
        assert pools[world].shape == (ENTITIES, LENGTH)
        assert pools[world].dtype == blinks_pools[world].dtype
        assert encodings[world].shape == blinks_encodings[world].shape
        assert encodings[world].dtype == blinks_encodings[world].dtype


@pytest.mark.parametrize("split", WORLDS)
def test_candidate_sets_have_blinks_form(exported: Path, golden: Path, split: str) -> None:
    ours = read(exported / f"top{TOP_K}_candidates" / f"{split}.t7")
    blinks = read(golden / "top16_candidates" / f"{split}.t7")
    assert {name: (tensor.dtype, tensor.ndim) for name, tensor in ours.items()} == {
        name: (tensor.dtype, tensor.ndim) for name, tensor in blinks.items()
    }
    mentions = 6 * len(WORLDS[split])
    assert ours["context_vecs"].shape == (mentions, LENGTH)
    assert ours["candidate_vecs"].shape == (mentions, TOP_K, LENGTH)


@pytest.mark.parametrize("split", WORLDS)
def test_candidate_set_label_is_the_column_of_the_gold(exported: Path, split: str) -> None:
    sets, pools = read(exported / f"top{TOP_K}_candidates" / f"{split}.t7"), read(exported / f"cand_pool_{split}.pt")
    worlds = json.loads((exported / "worlds.json").read_text())
    lines = [json.loads(line) for line in (exported / f"{split}.jsonl").read_text().splitlines()]
    assert len(lines) == len(sets["labels"]), "all golds are among the candidates: there are more than entities"
    for row, line in enumerate(lines):
        assert worlds[sets["worlds"][row]] == line["world"]
        gold = pools[int(sets["worlds"][row])][line["label_id"]]
        np.testing.assert_array_equal(sets["candidate_vecs"][row, sets["labels"][row]].numpy(), gold.numpy())


def test_exported_weights_give_the_same_recall(finished_run: Run, run_from_exported_weights: Run) -> None:
    for split in WORLDS:
        name = f"eval-biencoder-{split}"
        again = run_from_exported_weights
        assert record_of(again, name).reused is False
        assert manifest_of(again, name).metrics["recall"] == manifest_of(finished_run, name).metrics["recall"]


def test_exported_weights_give_the_same_accuracy(finished_run: Run, run_from_exported_weights: Run) -> None:
    for name in ("eval-crossencoder-valid", "eval-crossencoder-test"):
        again = manifest_of(run_from_exported_weights, name)
        assert again.fingerprint != manifest_of(finished_run, name).fingerprint
        assert again.metrics == manifest_of(finished_run, name).metrics


def test_zero_epochs_train_no_steps(run_from_exported_weights: Run) -> None:
    metrics = manifest_of(run_from_exported_weights, "train-biencoder").metrics
    assert (metrics["best_epoch"], metrics["steps"]) == (0, 0)


def test_float16_vectors_are_exported_as_float32(
    finished_run: Run, small_recipe: Recipe, exported: Path, tmp_path: Path
) -> None:
    halved = small_recipe.eval_biencoder.model_copy(update={"vector_dtype": "float16"})
    address = finished_run.address.replace("first", "float16")
    run_pipeline(address, small_recipe.model_copy(update={"eval_biencoder": halved}))
    run = open_run(address)
    assert record_of(run, "train-biencoder").reused
    assert not record_of(run, "eval-biencoder-test").reused
    folders = json.loads(run.artifact("eval-biencoder-test", tmp_path).path("encodings.json").read_text())
    for folder in folders.values():
        manifest = read_manifest(run.store, folder)
        assert manifest is not None
        assert np.load(Artifact(run.store, folder, manifest, tmp_path).path("vectors.npy")).dtype == np.float16
    export_blink(address, tmp_path / "blink")
    for split in WORLDS:
        vectors, exact = read(tmp_path / "blink" / f"cand_enc_{split}.pt"), read(exported / f"cand_enc_{split}.pt")
        for world in exact:
            torch.testing.assert_close(vectors[world], exact[world], atol=1e-3, rtol=1e-3)
            assert not torch.equal(vectors[world], exact[world])


def test_non_empty_output_directory_is_refused(finished_run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(ConfigError, match="--out: expected a new or empty directory"):
        export_blink(finished_run.address, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a finished stage convert"):
        export_blink(str(tmp_path / "runs" / "r1"), tmp_path / "out")
