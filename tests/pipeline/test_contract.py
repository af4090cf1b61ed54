"""The contract of every stage: reuse by fingerprint, commit, record."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import zeshel_tasks
from tests.stages.fake_stage import FakeStage, leaves
from tests.support.finished import record_of
from zeshel_tasks import __version__
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import ConfigError, CorruptArtifact, DataError, Preempted, TryAgain
from zeshel_tasks.pipeline.contract import derived_artifact, run_stage
from zeshel_tasks.pipeline.job import Job, Target
from zeshel_tasks.pipeline.stage import Stage
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Artifact, Metrics, Run, artifact_folder, open_run
from zeshel_tasks.store.runs import listed_records, read_record


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "store" / "runs" / "r1")


@pytest.fixture
def run(address: str) -> Run:
    return open_run(address)


@pytest.fixture
def recipe() -> Recipe:
    return build_recipe("smoke")


@pytest.fixture
def download() -> FakeStage:
    return FakeStage("download", does=leaves("data"))


@pytest.fixture
def convert() -> FakeStage:
    return FakeStage("convert", inputs=("download",), does=leaves("converted"))


def test_stage_commits_and_records_its_result(
    address: str, run: Run, recipe: Recipe, download: FakeStage, tmp_path: Path
) -> None:
    manifest = run_stage(download, address, recipe)
    assert manifest.metrics == {"length": 4}
    assert run.manifest("download") == manifest
    assert run.artifact("download", tmp_path / "cache").path("result.txt").read_text() == "data"
    record = run.record("download")
    assert record is not None
    assert (record.stage, record.reused, record.fingerprint) == ("download", False, manifest.fingerprint)
    assert record.artifact == f"artifacts/download/{manifest.fingerprint}"
    assert record.wall_seconds >= manifest.wall_seconds >= 0


def test_rerun_does_no_work(
    address: str, run: Run, recipe: Recipe, download: FakeStage, caplog: pytest.LogCaptureFixture
) -> None:
    first = run_stage(download, address, recipe)
    with caplog.at_level(logging.INFO, logger="zeshel_tasks"):
        assert run_stage(download, address, recipe) == first
    assert len(download.jobs) == 1
    assert record_of(run, "download").reused is False, "this run made it"
    assert f"reused download {first.fingerprint[:12]}" in caplog.messages


def test_other_run_reuses_the_artifact_with_its_own_record(
    address: str, run: Run, recipe: Recipe, download: FakeStage
) -> None:
    first = run_stage(download, address, recipe)
    other = address.replace("r1", "r2")
    assert run_stage(download, other, recipe) == first
    assert len(download.jobs) == 1
    assert record_of(open_run(other), "download").reused is True
    assert record_of(run, "download").reused is False


def test_changed_setting_makes_another_artifact(address: str, run: Run, download: FakeStage) -> None:
    convert = FakeStage("convert", does=leaves("x"))
    first = run_stage(convert, address, build_recipe("smoke", {"context_tokens": 10}))
    second = run_stage(convert, address, build_recipe("smoke", {"context_tokens": 11}))
    assert first.fingerprint != second.fingerprint
    assert [manifest.config["context_tokens"] for manifest in (first, second)] == [10, 11]
    assert len(convert.jobs) == 2
    assert record_of(run, "convert").fingerprint == second.fingerprint
    assert run_stage(convert, address, build_recipe("smoke", {"context_tokens": 10})) == first, (
        "the first is still there"
    )


def test_changed_setting_of_another_stage_keeps_the_artifact(address: str, recipe: Recipe, download: FakeStage) -> None:
    run_stage(download, address, recipe)
    run_stage(download, address, build_recipe("smoke", {"train_biencoder.seed": 1}))
    assert len(download.jobs) == 1


def test_setting_without_effect_on_the_result_keeps_the_artifact(address: str, recipe: Recipe) -> None:
    stage = FakeStage("eval-biencoder", splits=("test",), does=leaves("x"))
    first = run_stage(stage, address, recipe, "test")
    other = build_recipe("smoke", {"eval_biencoder.eval_batch_size": 3, "device": "cpu", "print_interval": 1})
    assert run_stage(stage, address, other, "test") == first
    assert first.config["eval_batch_size"] != 3


def test_each_split_has_its_own_artifact(address: str, run: Run, recipe: Recipe) -> None:
    stage = FakeStage("eval-biencoder", splits=("valid", "test"), does=leaves("x"))
    manifests = [run_stage(stage, address, recipe, split) for split in ("valid", "test")]
    assert [manifest.split for manifest in manifests] == ["valid", "test"]
    assert len({manifest.fingerprint for manifest in manifests}) == 2
    assert record_of(run, "eval-biencoder-valid").fingerprint == manifests[0].fingerprint
    assert [job.split for job in stage.jobs] == ["valid", "test"]


@pytest.mark.parametrize(
    ("stage", "split", "expected"),
    [
        (FakeStage("eval-biencoder", splits=("valid", "test")), None, "expected --split valid|test, got none"),
        (FakeStage("eval-crossencoder", splits=("valid", "test")), "train", "expected --split valid|test, got train"),
        (FakeStage("download"), "test", "expected no --split, got test"),
    ],
)
def test_missing_or_unexpected_split_is_refused(
    address: str, recipe: Recipe, stage: Stage, split: Any, expected: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        run_stage(stage, address, recipe, split)
    assert str(raised.value) == f"{stage.name}: {expected}"


def test_stage_reads_the_artifacts_of_its_inputs(address: str, recipe: Recipe, download: FakeStage) -> None:
    read = {}

    def work(job: Job) -> Metrics:
        read.update({name: artifact.path("result.txt").read_text() for name, artifact in job.inputs.items()})
        return {}

    run_stage(download, address, recipe)
    manifest = run_stage(FakeStage("convert", inputs=("download",), does=work), address, recipe)
    assert read == {"download": "data"}
    assert set(manifest.inputs) == {"download"}


def test_split_placeholder_in_an_input_is_replaced(address: str, recipe: Recipe) -> None:
    retrieval = FakeStage("eval-biencoder", splits=("valid", "test"), does=leaves("x"))
    ranking = FakeStage("eval-crossencoder", inputs=("eval-biencoder-{split}",), splits=("valid", "test"))
    run_stage(retrieval, address, recipe, "test")
    assert set(run_stage(ranking, address, recipe, "test").inputs) == {"eval-biencoder-test"}
    with pytest.raises(ConfigError, match="expected a finished stage eval-biencoder-valid"):
        run_stage(ranking, address, recipe, "valid")


def test_changed_input_makes_another_artifact(address: str, convert: FakeStage, recipe: Recipe) -> None:
    identity = {"source": "etag:1"}
    download = FakeStage("download", outside=lambda config, run: dict(identity), does=leaves("data"))
    run_stage(download, address, recipe)
    first = run_stage(convert, address, recipe)
    identity["source"] = "etag:2"
    assert run_stage(download, address, recipe).inputs == {"source": "etag:2"}
    second = run_stage(convert, address, recipe)
    assert second.fingerprint != first.fingerprint
    assert (len(download.jobs), len(convert.jobs)) == (2, 2)


def test_stage_without_its_inputs_raises_config_error(
    address: str, run: Run, recipe: Recipe, convert: FakeStage
) -> None:
    with pytest.raises(ConfigError, match="expected a finished stage download, got none: run it first"):
        run_stage(convert, address, recipe)
    assert convert.jobs == []
    assert run.record("convert") is None


@pytest.mark.parametrize(
    "error", [DataError("broken"), Preempted("told to stop"), RuntimeError("crash"), KeyboardInterrupt()]
)
def test_failed_work_leaves_neither_artifact_nor_record(
    address: str, run: Run, recipe: Recipe, error: BaseException
) -> None:
    def work(job: Job) -> Metrics:
        leaves("half")(job)
        raise error

    stage = FakeStage("download", does=work)
    with pytest.raises(type(error)):
        run_stage(stage, address, recipe)
    assert run.record("download") is None
    assert list(run.store.keys("")) == []
    assert not stage.jobs[0].scratch.exists()


def test_next_attempt_after_a_failure_succeeds(address: str, run: Run, recipe: Recipe) -> None:
    def fails(job: Job) -> Metrics:
        raise RuntimeError("crash")

    with pytest.raises(RuntimeError):
        run_stage(FakeStage("download", does=fails), address, recipe)
    manifest = run_stage(FakeStage("download", does=leaves("good")), address, recipe)
    assert manifest.metrics == {"length": 4}
    assert record_of(run, "download").reused is False


def test_after_commit_callback_sees_the_manifest(address: str, run: Run, recipe: Recipe) -> None:
    found: list[str] = []

    def work(job: Job) -> Metrics:
        job.after_commit.append(lambda: found.extend(job.run.store.keys("artifacts/")))
        return {}

    manifest = run_stage(FakeStage("download", does=work), address, recipe)
    assert found == [f"artifacts/download/{manifest.fingerprint}/manifest.json"]


@pytest.mark.parametrize(("version", "reused"), [("1.2.7", True), ("1.3.0", False), ("2.2.0", False)])
def test_patch_reuses_the_artifacts_of_its_minor_version(
    version: str, reused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fingerprint_of(version: str) -> str:
        source = Path(zeshel_tasks.__file__).read_text().replace(f'"{__version__}"', f'"{version}"')
        package: dict[str, Any] = {}
        exec(source, package)
        monkeypatch.setattr("zeshel_tasks.pipeline.job.RESULTS_VERSION", package["RESULTS_VERSION"])
        return Target("download", None, {}, {}).fingerprint

    assert (fingerprint_of(version) == fingerprint_of("1.2.0")) == reused


def test_manifest_records_device_time_memory_and_versions(address: str, recipe: Recipe, download: FakeStage) -> None:
    def work(job: Job) -> Metrics:
        job.device = "cuda: a GPU"
        return {"blob": len(bytearray(50_000_000))}

    manifest = run_stage(FakeStage("download", does=work), address, recipe)
    assert manifest.stage == "download"
    assert manifest.package_version == __version__
    assert manifest.config == recipe.download.model_dump(mode="json")
    assert manifest.device == "cuda: a GPU"
    assert manifest.peak_memory_mb > 50
    assert manifest.versions.keys() >= {"python", "torch", "transformers", "pydantic", "boto3"}
    assert manifest.hardware.keys() >= {"cpus", "memory_gb", "gpus", "platform"}
    started, finished = (datetime.fromisoformat(at) for at in (manifest.started_at, manifest.finished_at))
    assert started.tzinfo is not None
    assert started <= finished


def test_artifact_is_delivered_to_each_run_whether_made_or_reused(
    address: str, run: Run, recipe: Recipe, download: FakeStage
) -> None:
    def deliver(run: Run, recipe: Recipe, made: Artifact, inputs: Mapping[str, Artifact]) -> None:
        texts = [artifact.path("result.txt").read_text() for artifact in (made, *inputs.values())]
        run.publish("report/page.txt", " ".join((run.run_id, recipe.preset, *texts)).encode())

    stage = FakeStage("report", inputs=("download",), deliver=deliver, does=leaves("page"))
    for run_id in ("r1", "r2"):
        for each in (download, stage):
            run_stage(each, address.replace("r1", run_id), recipe)
        assert run.store.get(f"runs/{run_id}/report/page.txt") == f"{run_id} smoke page data".encode()
    assert len(stage.jobs) == 1


def test_step_is_recorded_only_after_its_artifact_is_delivered(address: str, run: Run, recipe: Recipe) -> None:
    """Until then, Airflow considers the task unfinished, but a cleanup must already keep the artifact."""
    seen = []

    def deliver(run: Run, recipe: Recipe, made: Artifact, inputs: Mapping[str, Artifact]) -> None:
        folders = {record.artifact for key in listed_records(run.store) if (record := read_record(run.store, key.key))}
        seen.append((run.record("promote"), folders))
        if len(seen) == 1:
            raise TryAgain("the champion has changed")

    stage = FakeStage("promote", deliver=deliver)
    with pytest.raises(TryAgain):
        run_stage(stage, address, recipe)
    manifest = run_stage(stage, address, recipe)
    folder = artifact_folder("promote", manifest.fingerprint)
    assert seen == [(None, {folder}), (None, {folder})]
    assert record_of(run, "promote").artifact == folder
    assert len(stage.jobs) == 1


def test_artifact_of_an_attempt_that_did_not_deliver_it_is_not_called_reused(
    address: str, run: Run, recipe: Recipe
) -> None:
    attempts = []

    def deliver(*_: object) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise TryAgain("the store does not answer")

    stage = FakeStage("report", deliver=deliver)
    with pytest.raises(TryAgain):
        run_stage(stage, address, recipe)
    run_stage(stage, address, recipe)
    recorded = record_of(run, "report")
    assert recorded.reused is False, "this run made it"
    run_stage(stage, address, recipe)
    assert record_of(run, "report") == recorded
    other = address.replace("r1", "r2")
    run_stage(stage, other, recipe)
    assert record_of(open_run(other), "report").reused is True


def test_damaged_input_stops_the_stage(address: str, run: Run, recipe: Recipe, download: FakeStage) -> None:
    entry = run_stage(download, address, recipe).files["result.txt"]
    run.store.put(f"{record_of(run, 'download').artifact}/{entry.key}", b"dat\0")
    reads = FakeStage(
        "convert", inputs=("download",), does=lambda job: {"x": job.inputs["download"].path("result.txt")}
    )
    with pytest.raises(CorruptArtifact, match="differs from what was committed"):
        run_stage(reads, address, recipe)
    assert run.record("convert") is None


def encode(job: Job) -> Metrics:
    """Makes an intermediate artifact."""
    return leaves("vectors")(job)


def test_derived_artifact_is_made_once_for_all_steps_and_runs(address: str, run: Run, recipe: Recipe) -> None:
    made, seen = [], []

    def counted(job: Job) -> Metrics:
        made.append(job.target.fingerprint)
        return encode(job)

    def work(job: Job) -> Metrics:
        for world in ("aster", "brine", "aster"):
            derived = derived_artifact(job, "candidate-encodings", {"world": world}, {"model": "m"}, counted)
            seen.append(derived.path("result.txt").read_text())
        return {}

    stage = FakeStage("eval-biencoder", splits=("valid", "test"), does=work)
    run_stage(stage, address, recipe, "test")
    run_stage(stage, address.replace("r1", "r2"), recipe, "valid")
    assert len(made) == len(set(made)) == 2
    assert seen == ["vectors"] * 6
    assert len([key for key in run.store.keys("artifacts/candidate-encodings/") if key.endswith("manifest.json")]) == 2


def test_derived_artifact_survives_failure_of_its_stage(address: str, recipe: Recipe) -> None:
    made = []

    def counted(job: Job) -> Metrics:
        made.append(job)
        return encode(job)

    def fails_after(job: Job) -> Metrics:
        derived_artifact(job, "candidate-encodings", {}, {}, counted)
        raise RuntimeError("crash")

    def succeeds(job: Job) -> Metrics:
        return dict(derived_artifact(job, "candidate-encodings", {}, {}, counted).manifest.metrics)

    with pytest.raises(RuntimeError):
        run_stage(FakeStage("download", does=fails_after), address, recipe)
    assert run_stage(FakeStage("download", does=succeeds), address, recipe).metrics == {"length": 7}
    assert len(made) == 1


def test_scratch_folder_follows_the_environment_and_is_removed(
    address: str, recipe: Recipe, download: FakeStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "volume").mkdir()
    monkeypatch.setenv("ZESHEL_SCRATCH", str(tmp_path / "volume"))
    run_stage(download, address, recipe)
    assert download.jobs[0].scratch.parent == tmp_path / "volume"
    assert list((tmp_path / "volume").iterdir()) == []


def test_missing_scratch_directory_raises_config_error(
    address: str, recipe: Recipe, download: FakeStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZESHEL_SCRATCH", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="ZESHEL_SCRATCH: expected a directory"):
        run_stage(download, address, recipe)
    assert download.jobs == []


class TestInputsThatWereDoneAgain:
    """Stages of a run that were repeated without those after them, by hand or by clearing a task alone."""

    @pytest.fixture
    def evaluate(self) -> FakeStage:
        return FakeStage("eval-biencoder", inputs=("download", "convert"), splits=("test",), does=leaves("x"))

    def test_input_made_from_an_outdated_artifact_is_refused(
        self, address: str, recipe: Recipe, download: FakeStage, convert: FakeStage, evaluate: FakeStage
    ) -> None:
        old = run_stage(download, address, recipe)
        run_stage(convert, address, recipe)
        new = run_stage(download, address, build_recipe("smoke", {"worlds_to_splits": ("aster=test",)}))
        assert old.fingerprint != new.fingerprint
        with pytest.raises(ConfigError) as raised:
            run_stage(evaluate, address, recipe, "test")
        assert str(raised.value) == (
            f"{address}: convert: expected one that was made from the run's download {new.fingerprint[:12]}, got one "
            f"from {old.fingerprint[:12]}: download was repeated, so repeat convert, too"
        )
        run_stage(convert, address, recipe)
        run_stage(evaluate, address, recipe, "test")

    def test_outdated_optional_input_is_left_out(
        self, address: str, recipe: Recipe, download: FakeStage, convert: FakeStage, caplog: pytest.LogCaptureFixture
    ) -> None:
        report = FakeStage("report", inputs=("download",), optional_inputs=("convert",))
        run_stage(download, address, recipe)
        run_stage(convert, address, recipe)
        assert "convert" in run_stage(report, address, recipe).inputs
        run_stage(download, address, build_recipe("smoke", {"worlds_to_splits": ("aster=test",)}))
        assert "convert" not in run_stage(report, address, recipe).inputs
        assert "left out convert" in caplog.text

    def test_optional_input_made_from_an_outdated_one_is_left_out(
        self, address: str, recipe: Recipe, download: FakeStage, convert: FakeStage, evaluate: FakeStage
    ) -> None:
        """Otherwise scores of two models might be of different candidates."""
        fuse = FakeStage("fuse", optional_inputs=("download", "convert", "eval-biencoder-test"))
        for stage, split in ((download, None), (convert, None), (evaluate, "test")):
            run_stage(stage, address, recipe, split)
        assert run_stage(fuse, address, recipe).inputs.keys() == {"download", "convert", "eval-biencoder-test"}
        run_stage(convert, address, build_recipe("smoke", {"subset_seed": 9}))
        assert run_stage(fuse, address, recipe).inputs.keys() == {"download", "convert"}

    def test_input_made_from_an_outdated_optional_one_is_refused(
        self, address: str, recipe: Recipe, download: FakeStage, convert: FakeStage
    ) -> None:
        report = FakeStage("report", inputs=("convert",), optional_inputs=("download",))
        run_stage(download, address, recipe)
        run_stage(convert, address, recipe)
        run_stage(report, address, recipe)
        run_stage(download, address, build_recipe("smoke", {"worlds_to_splits": ("aster=test",)}))
        with pytest.raises(ConfigError, match="download was repeated, so repeat convert, too"):
            run_stage(report, address, recipe)


class TestTheWorldOutside:
    def test_source_that_changes_during_reading_is_not_committed(self, address: str, run: Run, recipe: Recipe) -> None:
        """Otherwise the artifact would be reused under a fingerprint of other inputs."""
        content = ["one"]

        def read(job: Job) -> Metrics:
            content[0] = "another"
            job.check_outside()
            return {}

        stage = FakeStage("download", outside=lambda _, __: {"source": content[0]}, does=read)
        with pytest.raises(TryAgain, match="source has changed while it was read: from one to another"):
            run_stage(stage, address, recipe)
        assert run.record("download") is None
        assert run_stage(stage, address, recipe).inputs == {"source": "another"}
