"""eval-biencoder: encode each world's entities, retrieve the top-k of every mention, measure recall."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import new_array, read_array
from zeshel_tasks.data.candidate_sets import NO_CANDIDATE, tokenize_entities
from zeshel_tasks.data.mention_table import MentionTable, tokenize_mentions
from zeshel_tasks.data.tokens import Tokens
from zeshel_tasks.evaluation.encoding import Vectors, encode_rows, encode_table
from zeshel_tasks.evaluation.measures import recall_metrics
from zeshel_tasks.evaluation.retrieval import top_k
from zeshel_tasks.models.biencoder import load_biencoder
from zeshel_tasks.progress import Progress
from zeshel_tasks.stages.contract import Job, Metrics, derived_artifact
from zeshel_tasks.stages.inputs import split_file, world_documents, world_size
from zeshel_tasks.stages.watched import watched_batches
from zeshel_tasks.store import Artifact, artifact_folder
from zeshel_tasks.training.device import build_accelerator, device_name

log = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]


class _Found:
    """The retrieved candidates of a split, in memory-mapped files of [mentions, top_k].

    Attributes:
        gold_rank: int32 [mentions], column of the gold; -1 where it was not retrieved.
    """

    def __init__(self, folder: Path, mentions: int, top_k: int) -> None:
        self._folder, shape = folder, (mentions, top_k)
        self._candidates = new_array(folder / "candidates.npy", np.int32, shape)
        self._scores = new_array(folder / "scores.npy", np.float32, shape)
        self.gold_rank = np.full(mentions, -1, dtype=np.int32)

    def put(self, rows: Rows, scores: Vectors, positions: Rows, label: npt.NDArray[np.int32]) -> None:
        """Candidates and scores of some mentions, best first; ``label`` is where each mention's gold is."""
        self._candidates[rows], self._scores[rows] = NO_CANDIDATE, -np.inf
        columns = slice(positions.shape[1])
        self._candidates[rows, columns], self._scores[rows, columns] = positions, scores
        hit = positions == label[:, None]
        self.gold_rank[rows] = np.where(hit.any(1), hit.argmax(1), -1)

    def save(self) -> None:
        """Writes everything to the files."""
        np.save(self._folder / "gold_rank.npy", self.gold_rank)
        self._candidates.flush()
        self._scores.flush()


class _Retriever:
    """Retrieves the candidates of one split, one world after the other."""

    def __init__(self, job: Job) -> None:
        self._job, self._config = job, job.recipe.eval_biencoder
        self._accelerator = build_accelerator(self._config)
        job.device = device_name(self._accelerator)
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

    def search(self, table: MentionTable, rows: Rows, vectors: Vectors, found: _Found, progress: Progress) -> None:
        """Retrieves for the mentions ``rows``, all of one world; no more than a batch is in memory."""
        size = self._config.eval_batch_size
        with watched_batches(self._config, progress, "in retrieval", "eval_batch_size") as count:
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                queries = encode_rows(
                    self._model.context_encoder, table.contexts[batch], self._tokens.pad, self._accelerator
                )
                scores, positions = (best.cpu().numpy() for best in top_k(queries, vectors, self._config.top_k))
                found.put(batch, scores, positions, table.label[batch])
                count(len(batch))

    def _encode(self, job: Job, world: str) -> Metrics:
        download = job.inputs["download"]
        entities, folder = world_size(download, world), job.new_folder("encodings")
        table = tokenize_entities(
            world_documents(download, world), entities, self._tokens, self._settings.max_cand_length,
            self._config.candidate_form, folder / "tokens.npy",
        )  # fmt: skip
        progress = Progress(f"encode {world}", entities, "entities", self._config.print_interval)
        with watched_batches(self._config, progress, f"encoding {world}", "encode_batch_size") as count:
            encode_table(
                self._model.cand_encoder, table, self._config.encode_batch_size, self._tokens.pad, self._accelerator,
                folder / "vectors.npy", count,
            )  # fmt: skip
        job.attempt.add("tokens.npy", folder / "tokens.npy")
        job.attempt.add("vectors.npy", folder / "vectors.npy")
        return {"world": world, "entities": entities, "entities_per_second": round(progress.rate, 1)}


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    retriever = _Retriever(job)
    table = retriever.mentions()
    rows_of_world = table.rows_of_world()
    folder = job.new_folder("candidates")
    found = _Found(folder, len(table), job.recipe.eval_biencoder.top_k)
    encodings: dict[str, str] = {}
    seconds = 0.0
    for world, rows in rows_of_world.items():
        encoded = retriever.encodings(world)
        encodings[world] = artifact_folder("candidate-encodings", encoded.manifest.fingerprint)
        vectors = read_array(encoded.path("vectors.npy"), mapped=True)
        progress = Progress(f"retrieve {world}", len(rows), "mentions", job.recipe.eval_biencoder.print_interval)
        retriever.search(table, rows, vectors, found, progress)
        seconds += progress.seconds
    found.save()
    (folder / "encodings.json").write_text(json.dumps(encodings, indent=1))
    for path in folder.iterdir():
        job.attempt.add(path.name, path)
    entities = {world: world_size(job.inputs["download"], world) for world in rows_of_world}
    metrics = recall_metrics(found.gold_rank, rows_of_world, entities, job.recipe.eval_biencoder.top_k)
    log.info("recall: %s", "  ".join(f"@{at} {value:.4f}" for at, value in metrics["recall"]["micro"].items()))
    return {"split": job.split, **metrics, "mentions_per_second": round(len(table) / seconds, 1)}
