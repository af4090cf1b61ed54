"""Encodes entities: their token table, and their vectors by the candidate tower of a bi-encoder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zeshel_tasks.compute.device import Inference, Placement
from zeshel_tasks.compute.inference_guard import guarded_batches
from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.config.retrieval import RetrievalConfig
from zeshel_tasks.data.candidate_sets import entity_table
from zeshel_tasks.data.tokens import Tokens
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.evaluation.encoding import encode_table
from zeshel_tasks.models.biencoder import load_biencoder
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.models.inference import ready_for_inference

TOKENS, VECTORS = "tokens.npy", "vectors.npy"


@dataclass(frozen=True)
class EntityEncoder:
    """The candidate tower of a bi-encoder, ready to encode.

    Attributes:
        encoder: in eval mode, on the placement's device.
        tokens: of the same model.
        max_cand_length: tokens of an entity.
        placement: device and precision.
        config: form of a candidate, batch size and type of the stored vectors.
    """

    encoder: Encoder
    tokens: Tokens
    max_cand_length: int
    placement: Placement
    config: RetrievalConfig

    @classmethod
    def load(cls, folder: Path, config: RetrievalConfig) -> EntityEncoder:
        """Loads it from the folder of a saved bi-encoder, for the device and the precision of ``config``."""
        placement = Inference.of(config)
        model, settings, tokens = load_biencoder(folder)
        tower = ready_for_inference(model.cand_encoder, placement)
        return cls(tower, tokens, settings.max_cand_length, placement, config)

    @property
    def tokens_identity(self) -> str | None:
        """The :meth:`~zeshel_tasks.data.tokens.Tokens.identity` of the token tables."""
        return self.tokens.identity(self.max_cand_length, self.config.candidate_form)

    def write(
        self, documents: Iterable[Document], count: int, folder: Path, name: str, *, is_shard: bool = False
    ) -> Progress:
        """Writes ``tokens.npy`` and ``vectors.npy``; see ``docs/formats.md``.

        A thread tokenizes the entities ahead of those that are encoded. Memory holds one batch, and what the tokenizer
        needs for 1,024 entities.

        Args:
            documents: the entities, in order.
            count: their number.
            folder: existing folder.
            name: what the entities are of, for messages.
            is_shard: True if they are a part of a large world, whose vectors they need.

        Returns:
            The progress, which knows how fast it was.
        """
        config, path = self.config, folder / TOKENS
        form, length = config.candidate_form, self.max_cand_length
        table, filled = entity_table(documents, count, self.tokens, length, form, path)
        progress = Progress(f"encode {name}", count, "entities", config.print_interval)
        with guarded_batches(config, progress, f"encoding {name}", "encode_batch_size") as counted:
            encode_table(
                self.encoder,
                table,
                config.encode_batch_size,
                self.tokens.pad,
                self.placement,
                folder / VECTORS,
                counted,
                config.vector_dtype,
                filled,
                is_part=is_shard,
            )
        return progress
