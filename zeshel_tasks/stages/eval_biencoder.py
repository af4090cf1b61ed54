"""eval-biencoder: encode each world's entities, retrieve the top-k of every mention, measure recall."""

from __future__ import annotations

import logging

from zeshel_tasks.compute.device import build_accelerator, device_name
from zeshel_tasks.compute.inference_guard import guarded_batches
from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.candidate_sets import tokenize_entities
from zeshel_tasks.data.mention_table import MentionTable, tokenize_mentions
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.candidate_files import CandidateFiles
from zeshel_tasks.evaluation.candidates import retrieve
from zeshel_tasks.evaluation.encoding import encode_table
from zeshel_tasks.evaluation.measures import recall_metrics
from zeshel_tasks.models.biencoder import load_biencoder
from zeshel_tasks.models.inference import ready_for_inference
from zeshel_tasks.pipeline.contract import derived_artifact
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.inputs import split_file, world_documents, world_size
from zeshel_tasks.store import Artifact, Metrics, artifact_folder
from zeshel_tasks.text.json_text import to_json

log = logging.getLogger(__name__)


class _Retriever:
    """Retrieves the candidates of one split, one world after the other."""

    def __init__(self, job: Job) -> None:
        self._job, self._config = job, job.recipe.eval_biencoder
        self._accelerator = build_accelerator(self._config)
        job.device = device_name(self._accelerator)
        model, self._settings, self._tokens = load_biencoder(job.inputs["train-biencoder"].directory("model"))
        self._model = ready_for_inference(model, self._accelerator)

    def mentions(self) -> MentionTable:
        assert self._job.split is not None
        jsonl, folder = split_file(self._job, self._job.split), self._job.scratch / "mentions"
        return tokenize_mentions(jsonl, self._tokens, self._settings.max_context_length, folder)

    def encodings(self, world: str) -> Artifact:
        """The tokens and vectors of the world's entities. Reuses those of an earlier run or attempt."""
        deciding = ("candidate_form", "precision", "vector_dtype")
        config = {"world": world, **{name: getattr(self._config, name) for name in deciding}}
        download, model = (self._job.inputs[name].manifest for name in ("download", "train-biencoder"))
        inputs = {
            "documents": download.files[f"documents/{world}.json"].sha256,
            "train-biencoder": model.fingerprint,
        }
        return derived_artifact(self._job, "candidate-encodings", config, inputs, lambda job: self._encode(job, world))

    def search(
        self, table: MentionTable, rows: Rows, vectors: VectorFile, files: CandidateFiles, progress: Progress
    ) -> None:
        """Retrieves for the mentions ``rows``, all of one world."""
        config = self._config
        with guarded_batches(config, progress, "in retrieval", "eval_batch_size") as count:
            for candidates in retrieve(
                self._model.context_encoder,
                table.contexts,
                rows,
                vectors,
                config.top_k,
                config.eval_batch_size,
                self._tokens.pad,
                self._accelerator,
                count,
            ):
                files.put(candidates.rows, candidates.scores, candidates.positions, table.label[candidates.rows])

    def _encode(self, job: Job, world: str) -> Metrics:
        download = job.inputs["download"]
        entities, folder = world_size(download, world), job.new_folder("encodings")
        table = tokenize_entities(
            world_documents(download, world),
            entities,
            self._tokens,
            self._settings.max_cand_length,
            self._config.candidate_form,
            folder / "tokens.npy",
        )
        progress = Progress(f"encode {world}", entities, "entities", self._config.print_interval)
        with guarded_batches(self._config, progress, f"encoding {world}", "encode_batch_size") as count:
            encode_table(
                self._model.cand_encoder,
                table,
                self._config.encode_batch_size,
                self._tokens.pad,
                self._accelerator,
                folder / "vectors.npy",
                count,
                self._config.vector_dtype,
            )
        job.attempt.add("tokens.npy", folder / "tokens.npy")
        job.attempt.add("vectors.npy", folder / "vectors.npy")
        return {
            "world": world,
            "entities": entities,
            "entities_per_second": round(progress.rate, 1),
            "tokens": self._tokens.identity(self._settings.max_cand_length, self._config.candidate_form),
        }


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    retriever = _Retriever(job)
    table = retriever.mentions()
    rows_of_world = table.rows_of_world()
    folder = job.new_folder("candidates")
    files = CandidateFiles(folder, len(table), job.recipe.eval_biencoder.top_k)
    encodings: dict[str, str] = {}
    seconds = 0.0
    for world, rows in rows_of_world.items():
        encoded = retriever.encodings(world)
        encodings[world] = artifact_folder("candidate-encodings", encoded.manifest.fingerprint)
        vectors = VectorFile(encoded.path("vectors.npy"))
        progress = Progress(f"retrieve {world}", len(rows), "mentions", job.recipe.eval_biencoder.print_interval)
        retriever.search(table, rows, vectors, files, progress)
        seconds += progress.seconds
    files.save()
    (folder / "encodings.json").write_text(to_json(encodings, indent=1))
    for path in folder.iterdir():
        job.attempt.add(path.name, path)
    entities = {world: world_size(job.inputs["download"], world) for world in rows_of_world}
    metrics = recall_metrics(files.gold_rank, rows_of_world, entities, job.recipe.eval_biencoder.top_k)
    log.info("recall: %s", "  ".join(f"@{at} {value:.4f}" for at, value in metrics.recall.micro.items()))
    return {"split": job.split, **metrics.dump(), "mentions_per_second": round(len(table) / seconds, 1)}
