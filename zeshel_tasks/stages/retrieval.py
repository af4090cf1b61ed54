"""What fit-retrieval and eval-biencoder share: encodings and lexical index of a world, and the search in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zeshel_tasks.compute.device import Inference, device_name
from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.config.retrieval import RetrievalConfig
from zeshel_tasks.config.splits import Split
from zeshel_tasks.data.arrays import Rows, new_array
from zeshel_tasks.data.blink_format import read_blink_mentions
from zeshel_tasks.data.candidate_sets import NO_CANDIDATE
from zeshel_tasks.data.mention_table import MentionTable, tokenize_mentions
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.candidates import Candidates
from zeshel_tasks.evaluation.entity_encoding import EntityEncoder
from zeshel_tasks.evaluation.mention_search import MentionSearch
from zeshel_tasks.linking import lexical
from zeshel_tasks.linking.bm25 import best
from zeshel_tasks.linking.lexical import LexicalIndex
from zeshel_tasks.linking.mention_texts import MentionTexts, mention_text
from zeshel_tasks.linking.retriever import FILE, Retriever
from zeshel_tasks.models.biencoder import load_biencoder
from zeshel_tasks.models.inference import ready_for_inference
from zeshel_tasks.pipeline.contract import derived_artifact
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.encode_world import encoded_world
from zeshel_tasks.stages.encoded_world import EncodedWorld
from zeshel_tasks.stages.inputs import split_file, world_documents, world_size
from zeshel_tasks.store import Metrics

_TEXTS_AT_ONCE = 1024


def fitted_retriever(job: Job) -> Retriever:
    """What fit-retrieval fitted. Champions from before this stage retrieve with the bi-encoder alone."""
    fitted = job.inputs.get("fit-retrieval")
    return Retriever() if fitted is None else Retriever.read(fitted.path(FILE))


def mention_texts(job: Job, split: Split, context_words: int) -> MentionTexts:
    """The split's mentions with their contexts, for lexical search."""
    mentions = read_blink_mentions(split_file(job, split))
    return MentionTexts(job.scratch / f"{split}.texts", (mention_text(mention, context_words) for mention in mentions))


def lexical_index(job: Job, world: str) -> LexicalIndex:
    """The lexical index of a world. Reuses that of an earlier stage, run or attempt."""
    download = job.inputs["download"]

    def work(part: Job) -> Metrics:
        folder = part.new_folder("index")
        LexicalIndex.write(world_documents(download, world), folder)
        for name in lexical.FILES:
            part.attempt.add(f"index/{name}", folder / name)
        return {"world": world, "entities": world_size(download, world)}

    inputs = {"documents": download.manifest.files[f"documents/{world}.json"].sha256}
    config = {"world": world, "files": lexical.FILES}  # an index of an earlier version lacks some
    made = derived_artifact(job, "lexical-index", config, inputs, work)
    job.uses.pop()  # nothing reads it by way of the stage's artifact, which a champion may keep
    return LexicalIndex(made.directory("index"))


def best_by_words(job: Job, split: Split, table: MentionTable, k: int, path: Path) -> None:
    """Writes the best ``k`` entities of each mention by BM25 of its words: int32 [mentions, k], padded with -1."""
    texts = mention_texts(job, split, 0)
    found = new_array(path, np.int32, (len(table), k))
    found[:] = NO_CANDIDATE
    for world, rows in table.rows_of_world().items():
        index = lexical_index(job, world)
        for start in range(0, len(rows), _TEXTS_AT_ONCE):
            part = rows[start : start + _TEXTS_AT_ONCE]
            for row, text in zip(part, texts.of(part), strict=True):
                of_mention = best(index.mention_scores(text), k)
                found[row, : len(of_mention)] = of_mention
    found.flush()


class DenseRetriever:
    """Retrieves with the bi-encoder, one world after the other."""

    def __init__(self, job: Job, config: RetrievalConfig) -> None:
        self._job, self._config = job, config
        self._placement = Inference.of(config)
        job.device = device_name(self._placement)
        model, self._settings, self._tokens = load_biencoder(job.inputs["train-biencoder"].directory("model"))
        self._model = ready_for_inference(model, self._placement)

    def mentions(self, split: Split) -> MentionTable:
        """The split's mentions as tokens."""
        jsonl, folder = split_file(self._job, split), self._job.scratch / "mentions"
        return tokenize_mentions(jsonl, self._tokens, self._settings.max_context_length, folder)

    def encodings(self, world: str) -> EncodedWorld:
        """The tokens and vectors of the world's entities. Reuses those of an earlier stage, run, attempt or task."""
        return encoded_world(self._job, world, self._config, self._entity_encoder)

    def search(
        self, table: MentionTable, rows: Rows, vectors: VectorFile, k: int, progress: Progress
    ) -> Iterator[Candidates]:
        """Retrieves ``k`` candidates of each of the mentions ``rows``, all of one world."""
        search = MentionSearch(
            self._model.context_encoder,
            self._tokens,
            self._settings.max_context_length,
            self._placement,
            self._config,
        )
        return search.search(table.contexts, rows, vectors, k, progress)

    def _entity_encoder(self) -> EntityEncoder:
        return EntityEncoder(
            self._model.cand_encoder, self._tokens, self._settings.max_cand_length, self._placement, self._config
        )
