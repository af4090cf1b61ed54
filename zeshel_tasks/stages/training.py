"""Shared by both training stages: prepare, train in one process for each GPU, keep the best epoch's model."""

from __future__ import annotations

import logging
from pathlib import Path

from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.data.json_lines import write_json_lines
from zeshel_tasks.download.model_files import bert_directory, model_origin
from zeshel_tasks.download.stated import StatedOrigin
from zeshel_tasks.location import model_location, store_location
from zeshel_tasks.models.blink_weights import weights_file
from zeshel_tasks.models.markers import with_markers
from zeshel_tasks.models.tokenizer import is_cased, load_tokenizer
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.training.fit import BuildObjective, Fit, FitResult, fit
from zeshel_tasks.training.launch import processes_for, run_in_processes
from zeshel_tasks.training.metrics import TrainingMetrics

log = logging.getLogger(__name__)


def plan_training(job: Job, config: EncoderConfig, bert: Path, weights: str | None, build: BuildObjective) -> Fit:
    """Describes the training: directories, settings and how to build the model.

    Args:
        job: the job of the stage.
        config: hyper-parameters.
        bert: directory of the model to start from.
        weights: path or S3 address of BLINK's weights to start from instead, if any. They are downloaded.
        build: creates model and objective.
    """
    return Fit(
        build=build,
        config=config,
        bert=bert,
        weights=None if weights is None else weights_file(store_location(weights), job.scratch),
        tables=job.new_folder("tables"),
        store=job.run.store.address,
        checkpoints=f"{job.folder}/checkpoints",
        out=job.new_folder("training"),
    )


def pretrained_bert(job: Job, bert_model: str) -> Path:
    """Fetches the pretrained model that is part of the fingerprint.

    Raises:
        TryAgain: it has changed since the stage started.
    """
    directory = bert_directory(model_location(bert_model), job.scratch, job.run.store)
    job.check_outside()
    return directory


def pretrained_origin(job: Job, bert_model: str) -> StatedOrigin:
    """What the pretrained model states about its making."""
    origin = model_origin(model_location(bert_model), job.scratch)
    log.info("bert_model states that it was trained on: %s", ", ".join(origin.datasets) or "nothing")
    return origin


def ready_to_start(job: Job, config: EncoderConfig, bert: Path) -> Path:
    """Returns the model directory ``bert``, or a copy if its vocabulary lacks markers.

    Logs a warning if the model knows capital letters, which it will never see.
    """
    if config.lowercase and is_cased(load_tokenizer(bert, lowercase=True)):
        log.warning("lowercase is true, but bert_model has a cased vocabulary: set lowercase to false to keep the case")
    return with_markers(bert, job.scratch / "bert_with_markers", lowercase=config.lowercase, seed=config.seed)


def train(job: Job, task: Fit) -> TrainingMetrics:
    """Trains, and adds ``model/`` and ``curve.jsonl`` to the artifact. All processes of a gang get the metrics."""
    job.note_peak_memory()
    run_in_processes(fit, task, processes_for(task.config, job.gang), task.out, job.gang)
    result = FitResult.model_validate_json(job.gang.shared(task.result.read_text))
    job.device = result.device
    job.peak_memory_mb = max(job.peak_memory_mb, result.peak_memory_mb)
    job.peak_gpu_memory_mb = result.peak_gpu_memory_mb
    if job.gang.leads:
        job.attempt.add_directory("model", task.model)
        job.attempt.add("curve.jsonl", write_json_lines(task.out / "curve.jsonl", result.curve))
        job.after_commit.append(task.checkpoint_store().remove)
    return result.metrics
