"""eval-biencoder: encode each world's entities, retrieve the top-k of every mention, measure recall."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np

from zeshel_tasks.data.candidate_sets import NO_CANDIDATE, tokenize_entities
from zeshel_tasks.data.mention_table import MentionTable, tokenize_mentions
from zeshel_tasks.data.tokens import Tokens
from zeshel_tasks.evaluation.encoding import encode_rows, encode_table
from zeshel_tasks.evaluation.measures import recall_metrics
from zeshel_tasks.evaluation.retrieval import top_k
from zeshel_tasks.models.biencoder import load_biencoder
from zeshel_tasks.progress import Progress
from zeshel_tasks.stages.contract import Job, Metrics, derived_artifact
from zeshel_tasks.stages.inputs import split_file, world_documents, world_size
from zeshel_tasks.store import Artifact, artifact_folder
from zeshel_tasks.training.device import build_accelerator, device_name

log = logging.getLogger(__name__)


class _Retriever:
    """Retrieves the candidates of one split, one world after the other."""

    def __init__(self, job: Job) -> None:
        self._job, self._config = job, job.recipe.eval_biencoder
        self._accelerator = build_accelerator(self._config)
        job.device = device_name(self._accelerator.device)
        model, self._settings, tokenizer = load_biencoder(job.inputs["train-biencoder"].directory("model"))
        self._model = model.to(self._accelerator.device).eval()
        self._tokens = Tokens(tokenizer)

    def mentions(self) -> MentionTable:
        assert self._job.split is not None
        jsonl, folder = split_file(self._job, self._job.split), self._job.scratch / "mentions"
        return tokenize_mentions(jsonl, self._tokens, self._settings.max_context_length, folder)

    def encodings(self, world: str) -> Artifact:
        """The world's candidate pool (tokens) and its vectors; those of an earlier run or attempt where there are."""
        config = {"world": world, "candidate_form": self._config.candidate_form, "precision": self._config.precision}
        download, model = (self._job.inputs[name].manifest for name in ("download", "train-biencoder"))
        inputs = {
            "documents": download.files[f"documents/{world}.json"].sha256,
            "train-biencoder": model.fingerprint,
        }
        return derived_artifact(self._job, "candidate-encodings", config, inputs, lambda job: self._encode(job, world))

    def search(self, table: MentionTable, rows: Any, vectors: Any, counted: Progress) -> tuple[Any, Any]:
        """Candidates and scores of the mentions ``rows``, both [len(rows), top_k]."""
        found = np.full((len(rows), self._config.top_k), NO_CANDIDATE, dtype=np.int32)
        scores = np.full((len(rows), self._config.top_k), -np.inf, dtype=np.float32)
        for start in range(0, len(rows), self._config.eval_batch_size):
            batch = slice(start, start + self._config.eval_batch_size)
            queries = encode_rows(
                self._model.context_encoder, table.contexts[rows[batch]], self._tokens.pad, self._accelerator
            )
            best, positions = top_k(queries, vectors, self._config.top_k)
            scores[batch, : best.shape[1]] = best.cpu().numpy()
            found[batch, : best.shape[1]] = positions.cpu().numpy()
            counted.update(len(queries))
        return found, scores

    def _encode(self, job: Job, world: str) -> Metrics:
        download = job.inputs["download"]
        count, folder = world_size(download, world), job.new_folder("encodings")
        table = tokenize_entities(
            world_documents(download, world), count, self._tokens, self._settings.max_cand_length,
            self._config.candidate_form, folder / "tokens.npy",
        )  # fmt: skip
        progress = Progress(f"encode {world}", count, "entities", self._config.print_interval)
        encode_table(
            self._model.cand_encoder, table, self._config.encode_batch_size, self._tokens.pad, self._accelerator,
            folder / "vectors.npy", progress.update,
        )  # fmt: skip
        job.attempt.add("tokens.npy", folder / "tokens.npy")
        job.attempt.add("vectors.npy", folder / "vectors.npy")
        return {"world": world, "entities": count, "entities_per_second": round(progress.rate, 1)}


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    assert job.split is not None
    retriever, k = _Retriever(job), job.recipe.eval_biencoder.top_k
    table = retriever.mentions()
    rows_of_world = table.rows_of_world()
    folder = job.new_folder("candidates")
    shape = (len(table), k)
    candidates = np.lib.format.open_memmap(folder / "candidates.npy", mode="w+", dtype=np.int32, shape=shape)
    scores = np.lib.format.open_memmap(folder / "scores.npy", mode="w+", dtype=np.float32, shape=shape)
    encodings: dict[str, str] = {}
    progress = Progress("retrieve", len(table), "mentions", job.recipe.eval_biencoder.print_interval)
    for world, rows in rows_of_world.items():
        encoded = retriever.encodings(world)
        encodings[world] = artifact_folder("candidate-encodings", encoded.manifest.fingerprint)
        vectors = np.load(encoded.path("vectors.npy"), mmap_mode="r")
        candidates[rows], scores[rows] = retriever.search(table, rows, vectors, progress)
    hits = candidates == table.label[:, None]
    gold_rank = np.where(hits.any(1), hits.argmax(1), -1).astype(np.int32)
    np.save(folder / "gold_rank.npy", gold_rank)
    (folder / "encodings.json").write_text(json.dumps(encodings, indent=1))
    for array in (candidates, scores):
        array.flush()
    for path in folder.iterdir():
        job.attempt.add(path.name, path)
    entities = {world: world_size(job.inputs["download"], world) for world in rows_of_world}
    metrics = recall_metrics(gold_rank, rows_of_world, entities, k)
    log.info("recall: %s", "  ".join(f"@{at} {value:.4f}" for at, value in metrics["recall"]["micro"].items()))
    return {"split": job.split, **metrics, "mentions_per_second": round(progress.rate, 1)}
