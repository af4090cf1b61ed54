"""Retrieves entities for mentions, by the mention tower of a bi-encoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zeshel_tasks.compute.device import Placement
from zeshel_tasks.compute.inference_guard import guarded_batches
from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.config.link import LinkConfig
from zeshel_tasks.config.retrieval import RetrievalConfig
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.tokens import Tokens, TokenTable
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.approximate import ApproximateIndex
from zeshel_tasks.evaluation.candidates import Candidates, retrieve
from zeshel_tasks.models.biencoder import load_biencoder
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.models.inference import ready_for_inference


@dataclass(frozen=True)
class MentionSearch:
    """The mention tower of a bi-encoder, ready to search.

    Attributes:
        encoder: in eval mode, on the placement's device.
        tokens: of the same model.
        max_context_length: tokens of a mention in its context.
        placement: device and precision.
        config: batch size.
    """

    encoder: Encoder
    tokens: Tokens
    max_context_length: int
    placement: Placement
    config: RetrievalConfig | LinkConfig

    @classmethod
    def load(cls, folder: Path, config: LinkConfig, placement: Placement) -> MentionSearch:
        """Loads it from the folder of a saved bi-encoder."""
        model, settings, tokens = load_biencoder(folder)
        tower = ready_for_inference(model.context_encoder, placement)
        return cls(tower, tokens, settings.max_context_length, placement, config)

    def search(
        self, contexts: TokenTable, rows: Rows, vectors: VectorFile | ApproximateIndex, k: int, progress: Progress
    ) -> Iterator[Candidates]:
        """Retrieves ``k`` candidates of each of the mentions ``rows``.

        The arguments are those of :func:`~zeshel_tasks.evaluation.candidates.retrieve`.
        """
        with guarded_batches(self.config, progress, "in retrieval", "eval_batch_size") as count:
            yield from retrieve(
                self.encoder,
                contexts,
                rows,
                vectors,
                k,
                self.config.eval_batch_size,
                self.tokens.pad,
                self.placement,
                count,
            )
