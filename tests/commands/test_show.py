"""``zeshel show``: finished and reused stages, metrics and provenance."""

import json
import os
from pathlib import Path

import pytest

from tests.support.finished import NAMES, STEPS, copy_of, manifest_of
from zeshel_tasks.champion.approval import Approval, record_approval
from zeshel_tasks.cli import main
from zeshel_tasks.commands.pipeline import run_pipeline
from zeshel_tasks.commands.show import show_run
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import EXIT_OK, ConfigError
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.registry import RECIPE
from zeshel_tasks.store import Run, open_run
from zeshel_tasks.store.checksummed import checksummed


@pytest.fixture(scope="module")
def mixed_run(finished_run: Run, small_recipe: Recipe) -> Run:
    """A run that reuses every stage but the report."""
    recipe = small_recipe.model_copy(update={"report": small_recipe.report.model_copy(update={"num_mistakes": 2})})
    address = finished_run.address.replace("first", "mixed")
    run_pipeline(address, recipe)
    return open_run(address)


def shown(run: Run, capsys: pytest.CaptureFixture[str]) -> str:
    show_run(run.address, as_json=False)
    return capsys.readouterr().out


def row_of(name: str, text: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [name])


def test_json_has_every_record_and_manifest(mixed_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    show_run(mixed_run.address, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["run"] == mixed_run.address
    assert list(shown["stages"]) == NAMES
    assert {name: stage["reused"] for name, stage in shown["stages"].items()} == {
        name: name != "report" for name in NAMES
    }
    for name, stage in shown["stages"].items():
        assert stage["manifest"] == json.loads(manifest_of(mixed_run, name).model_dump_json())
        assert stage["fingerprint"] == stage["manifest"]["fingerprint"]


def test_each_stage_is_shown_as_ran_or_reused(
    finished_run: Run, mixed_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(mixed_run, capsys)
    assert {name: row_of(name, text)[1] for name in NAMES} == {
        name: "ran" if name == "report" else "reused" for name in NAMES
    }
    assert {row_of(name, shown(finished_run, capsys))[1] for name in NAMES} == {"ran"}


def test_answer_of_the_person_who_was_asked_is_shown(mixed_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    fused = mixed_run.record("fuse")
    assert fused is not None
    answer = Approval(model=fused.artifact, approved=False, by="ada", name="ada", reason="odd links", at="2026-01-02")
    record_approval(mixed_run, answer)
    assert "rejected by ada at 2026-01-02: odd links" in shown(mixed_run, capsys)


def test_output_into_a_closed_pipe_is_no_error(finished_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in ``zeshel show ... | head``."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as closed_pipe:
        monkeypatch.setattr("sys.stdout", closed_pipe)
        assert main(["show", f"--run={finished_run.address}"]) == EXIT_OK


def test_text_has_the_metrics_of_every_split(finished_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(finished_run, capsys)
    for split in ("train", "valid", "test"):
        metrics = manifest_of(finished_run, f"eval-biencoder-{split}").metrics
        recalls = {"hybrid": metrics["recall"], "BM25": metrics["methods"]["bm25"]}
        for retriever, recall in recalls.items():
            row = " ".join(f"{value:.2%}" for value in recall["micro"].values())
            assert f"{split} {retriever} mentions {row}" in " ".join(text.split())
    for split in ("valid", "test"):
        parts = manifest_of(finished_run, "fuse").metrics["splits"][split]
        for name, part in (("final score", "linker"), ("cross-encoder", "crossencoder"), ("retriever", "retriever")):
            metrics = parts[part]
            row = f"{metrics['normalized_accuracy']['micro']:.2%} {metrics['unnormalized_accuracy']['micro']:.2%} "
            row += f"{metrics['mentions']} {metrics['retrieved']}"
            assert f"{split} {name} mentions {row}" in " ".join(text.split())
        calibrated = manifest_of(finished_run, "calibrate").metrics["splits"][split]
        row = f"{calibrated['right']['calibration_error']:.2%}"
        assert f"{split} calibrated {row}" in " ".join(text.split())
        for mode, found in manifest_of(finished_run, "calibrate").metrics["cascade"]["splits"][split]["modes"].items():
            rates = " ".join(f"{found[name]:.2%}" for name in ("reranked", "accuracy", "calibration_error"))
            assert f"{split} {mode} {rates}" in " ".join(text.split())


def test_run_of_earlier_version_shows_its_crossencoder(
    finished_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(finished_run, tmp_path)
    run.store.delete(f"runs/{run.run_id}/stages/fuse.json")
    metrics = manifest_of(run, "eval-crossencoder-test").metrics
    row = f"test cross-encoder mentions {metrics['normalized_accuracy']['micro']:.2%}"
    assert row in " ".join(shown(run, capsys).split())


def test_calibration_of_earlier_version_shows_no_modes(
    finished_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(finished_run, tmp_path)
    manifest = manifest_of(run, "calibrate")
    metrics = {name: value for name, value in manifest.metrics.items() if name != "cascade"}
    run.store.put(
        f"artifacts/calibrate/{manifest.fingerprint}/manifest.json",
        checksummed(manifest.model_copy(update={"metrics": metrics})),
    )
    text = shown(run, capsys)
    assert "test calibrated" in " ".join(text.split())
    assert "modes of zeshel link" not in text


def test_text_shows_the_source_model_and_report(
    finished_run: Run, small_recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(finished_run, capsys)
    assert small_recipe.download.source in text
    assert manifest_of(finished_run, "download").metrics["sources"][0]["sha256"] in text
    assert small_recipe.train_biencoder.bert_model in text
    assert f"{finished_run.address}/report/index.html" in text


def test_unfinished_run_shows_its_finished_stages(
    small_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(tmp_path_factory.mktemp("unfinished") / "runs" / "r1")
    run_stage(RECIPE[0][0], address, small_recipe)
    text = shown(open_run(address), capsys)
    assert row_of("download", text)[1] == "ran"
    assert row_of("report", text) == ["report", "not", "done"]


def test_run_without_finished_stages_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ConfigError, match="expected a run with finished stages, got none at "):
        show_run(str(tmp_path_factory.mktemp("empty") / "runs" / "r1"), as_json=True)


def test_absent_splits_are_not_shown(finished_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert "heldout" not in shown(finished_run, capsys)


def test_splits_of_different_top_k_share_a_table(
    mixed_run: Run, small_recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    """The state after a manual evaluation of one split."""
    run = open_run(mixed_run.address.replace("mixed", "depths"))
    shallow = small_recipe.model_copy(
        update={"eval_biencoder": small_recipe.eval_biencoder.model_copy(update={"top_k": 2})}
    )
    for stage, split in STEPS[: NAMES.index("eval-biencoder-test")]:
        run_stage(stage, run.address, shallow if split == "valid" else small_recipe, split)
    text = shown(run, capsys)
    recalls = {split: row_of(split, text)[4:] for split in ("train", "valid")}
    assert len(recalls["train"]) == len(recalls["valid"])
    assert recalls["train"][-1] != "–"
    assert recalls["valid"][-1] == "–"
