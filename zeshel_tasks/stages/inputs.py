"""Inputs that several stages read from earlier artifacts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.config.splits import Split
from zeshel_tasks.data.arrays import read_array
from zeshel_tasks.data.candidate_sets import CandidateSets, tokenize_entities
from zeshel_tasks.data.mention_table import tokenize_mentions
from zeshel_tasks.data.search_set import SearchSet, draw_entities
from zeshel_tasks.data.tokens import Tokens
from zeshel_tasks.data.zeshel import Dataset, Document
from zeshel_tasks.linking.fusion import Scores
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.encoded_world import EncodedWorld, candidate_encodings
from zeshel_tasks.store import Artifact

SCORES = "scores.npy"


@dataclass(frozen=True)
class RankedSplit:
    """The candidates of a split's mentions, in file order, with both scores.

    Attributes:
        candidates: int32 [mentions, top_k], positions in the mention's world; -1 for a missing candidate.
        gold_rank: int32 [mentions], column of the gold; -1 if it was not retrieved.
        retrieval: float32 [mentions, top_k].
        crossencoder: float32 [mentions, top_k].
    """

    candidates: npt.NDArray[np.int32]
    gold_rank: npt.NDArray[np.int32]
    retrieval: Scores
    crossencoder: Scores

    @classmethod
    def read(cls, retrieved: Artifact, scored: Artifact) -> RankedSplit:
        """Opens what eval-biencoder and eval-crossencoder wrote; all but ``gold_rank`` is memory-mapped."""
        return cls(
            candidates=read_array(retrieved.path("candidates.npy"), mapped=True),
            gold_rank=read_array(retrieved.path("gold_rank.npy")),
            retrieval=read_array(retrieved.path(SCORES), mapped=True),
            crossencoder=read_array(scored.path(SCORES), mapped=True),
        )


def split_file(job: Job, split: Split) -> Path:
    """Fetches the split in BLINK's format and the file beside it."""
    convert = job.inputs["convert"]
    convert.path(f"{split}.mentions.jsonl")
    return convert.path(f"{split}.jsonl")


def split_worlds(job: Job, split: Split) -> list[str]:
    """The worlds that have mentions in the split."""
    return sorted(job.inputs["convert"].manifest.metrics["worlds"][split])


def world_documents(download: Artifact, world: str) -> Iterator[Document]:
    """The entities of one world. Fetches only its file."""
    return Dataset(download.path(f"documents/{world}.json").parents[1]).documents(world)


def world_size(download: Artifact, world: str) -> int:
    """Number of entities of a world."""
    return int(download.manifest.metrics["documents_by_world"][world])


def has_tokens(encoded: EncodedWorld, identity: str | None) -> bool:
    """True if these encodings have tokens of this :meth:`~zeshel_tasks.data.tokens.Tokens.identity`."""
    return identity is not None and encoded.tokens_identity == identity


def candidate_sets(
    job: Job, split: Split, tokens: Tokens, max_context_length: int, max_cand_length: int, folder: Path
) -> CandidateSets:
    """The split's mentions with the candidates that eval-biencoder retrieved for them.

    Writes the tables into the new directory ``folder``, from where another process can load them. Entities that
    eval-biencoder has tokenized in the same way are not tokenized again.
    """
    tokenize_mentions(split_file(job, split), tokens, max_context_length, folder / "mentions")
    retrieved = job.inputs[f"eval-biencoder-{split}"]
    encodings = candidate_encodings(retrieved, job.scratch / "cache")
    (folder / "entities").mkdir()
    for world in split_worlds(job, split):
        path = folder / "entities" / f"{world}.npy"
        encoded = encodings.get(world)
        if encoded is not None and has_tokens(encoded, tokens.identity(max_cand_length)):
            path.symlink_to(encoded.path("tokens.npy").absolute())
        else:
            tokenize_world(job, world, tokens, max_cand_length, path)
    for name in ("candidates.npy", "gold_rank.npy"):
        shutil.copyfile(retrieved.path(name), folder / name)
    return CandidateSets.load(folder)


def tokenize_worlds(job: Job, split: Split, tokens: Tokens, max_cand_length: int, folder: Path) -> None:
    """The entities of the split's worlds as token tables, a file each, in the new directory ``folder``."""
    folder.mkdir()
    for world in split_worlds(job, split):
        tokenize_world(job, world, tokens, max_cand_length, folder / f"{world}.npy")


def tokenize_search_set(
    job: Job, split: Split, tokens: Tokens, config: TrainBiencoderConfig, folder: Path
) -> SearchSet:
    """The split's mentions, and a sample of the entities of its worlds, as tables in the new directory ``folder``."""
    mentions = tokenize_mentions(split_file(job, split), tokens, config.max_context_length, folder / "mentions")
    golds = {
        world: np.unique(mentions.label[rows].astype(np.int64)) for world, rows in mentions.rows_of_world().items()
    }
    sizes = {world: world_size(job.inputs["download"], world) for world in golds}
    for world, (positions, weights) in draw_entities(golds, sizes, config.valid_entities, config.seed).items():
        of_world = folder / "entities" / world
        of_world.mkdir(parents=True)
        np.save(of_world / "positions.npy", positions)
        np.save(of_world / "weights.npy", weights)
        documents, chosen = world_documents(job.inputs["download"], world), set(positions.tolist())
        drawn = (document for position, document in enumerate(documents) if position in chosen)
        tokenize_entities(
            drawn, len(positions), tokens, config.max_cand_length, "title_and_text", of_world / "tokens.npy"
        )
    return SearchSet.load(folder)


def tokenize_world(job: Job, world: str, tokens: Tokens, max_cand_length: int, path: Path) -> None:
    """The entities of a world as a token table, with title and text, in the file ``path``."""
    documents, count = world_documents(job.inputs["download"], world), world_size(job.inputs["download"], world)
    tokenize_entities(documents, count, tokens, max_cand_length, "title_and_text", path)
