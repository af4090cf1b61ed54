"""The cascade: a mention is re-ranked only if the retriever does not make it clear.

A mention is clear if the probability that the retriever's first candidate is right is high enough. What that is,
:mod:`~zeshel_tasks.linking.fit_cascade` chooses on valid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from zeshel_tasks.config.link import LinkMode
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.linking.calibration import Calibration, Probabilities, Reference
from zeshel_tasks.linking.fusion import Scores
from zeshel_tasks.linking.listwise import Flags

CASCADE_FILE = "cascade.json"
OWN_FILE = "own_calibration.json"


class Cascade(BaseModel):
    """What the retriever's scores mean, and which mentions they make clear. ``cascade.json`` holds it.

    Attributes:
        clear_from: least probability of being right with which a mention is not re-ranked; None re-ranks all.
        retriever: the probabilities of mentions that are not re-ranked.
        reference: probabilities of valid mentions in the cascade; those of ``retriever`` are of the retriever alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    clear_from: float | None
    retriever: Calibration
    reference: Reference = Field(repr=False)

    def probabilities(self, retrieval: Scores, nil_share: float | None = None) -> Probabilities:
        """Returns the probabilities of mentions that are not re-ranked.

        Args:
            retrieval: float32 [mentions, top_k], minus infinity for missing candidates; each mention has at least one.
            nil_share: see :meth:`~zeshel_tasks.linking.calibration.Calibration.probabilities`.
        """
        return self.retriever.probabilities(retrieval, retrieval, None, nil_share)

    def is_clear(self, retrieval: Scores) -> Flags:
        """Returns which mentions are not re-ranked: bool [mentions]; see :meth:`probabilities`."""
        least = np.inf if self.clear_from is None else self.clear_from
        return np.asarray(self.probabilities(retrieval).right >= least)


class OwnCalibration(BaseModel):
    """What the scores mean in one knowledge base. ``own_calibration.json`` holds it.

    Attributes:
        reranked: of re-ranked mentions.
        retriever: of the others. Which ones these are, the models decide.
        reference: probabilities of its mentions in the cascade.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    reranked: Calibration
    retriever: Calibration
    reference: Reference = Field(repr=False)


@dataclass(frozen=True)
class Calibrations:
    """What the scores of a linker mean, however it links a mention.

    Attributes:
        reranked: of re-ranked mentions; None if there are no probabilities (a champion of an earlier version).
        cascade: of the others; None if there is no cascade (a champion of an earlier version).
        own: of a knowledge base, whose probabilities replace those of the models; None if it has none.
    """

    reranked: Calibration | None = None
    cascade: Cascade | None = None
    own: OwnCalibration | None = None

    @property
    def of_reranked(self) -> Calibration | None:
        """What the scores of re-ranked mentions mean."""
        return self.reranked if self.own is None else self.own.reranked

    @property
    def of_clear(self) -> Calibration | None:
        """What the scores of mentions that are not re-ranked mean."""
        if self.own is not None:
            return self.own.retriever
        return None if self.cascade is None else self.cascade.retriever

    def reference(self, mode: LinkMode) -> Reference | None:
        """Returns the probabilities of valid mentions; None if there are none."""
        if mode == "cascade":
            part = self.own or self.cascade
            return None if part is None else part.reference
        calibration = self.of_reranked if mode == "rerank" else self.of_clear
        return None if calibration is None else calibration.reference

    def check(self, mode: LinkMode) -> None:
        """Checks that these models can link in a mode.

        Raises:
            ConfigError: the mode needs a cascade, and there is none.
        """
        if mode != "rerank" and self.cascade is None:
            raise ConfigError(
                f"mode: expected rerank, because these models are of an earlier version without a cascade, got {mode}: "
                "repeat the stage calibrate of their run and link with this run, or train a new champion"
            )

    def is_clear(self, mode: LinkMode, retrieval: Scores) -> Flags:
        """Returns which mentions are not re-ranked in a mode; see :meth:`Cascade.is_clear`."""
        if mode == "cascade" and self.cascade is not None:
            return self.cascade.is_clear(retrieval)
        return np.full(len(retrieval), mode == "retrieve")
