"""Metrics of ``compare`` and ``promote``, computed by ``comparison.py`` and ``gate.py``."""

from __future__ import annotations

from pydantic import Field

from zeshel_tasks.metrics import MetricsModel


class ComparedChampion(MetricsModel):
    """The champion that a model was compared with.

    Attributes:
        run: id of the run that promoted it.
        crossencoder: folder of its train-crossencoder artifact.
        fusion: folder of its fuse artifact, if it has one.
        promoted_at: ISO 8601.
        approval: who approved its promotion and why, as text; None if it needed no approval.
    """

    run: str
    crossencoder: str
    fusion: str | None = None
    promoted_at: str
    approval: str | None = None

    @property
    def identity(self) -> str:
        """The folder that identifies the model, see :class:`~zeshel_tasks.champion.champions.Champion`."""
        return self.fusion or self.crossencoder


class ComparedGroup(MetricsModel):
    """Two models on the same mentions.

    Attributes:
        mentions: number of mentions.
        new: unnormalized accuracy of the new model.
        champion: unnormalized accuracy of the champion.
        difference: the first minus the second.
        interval: bootstrap interval of the difference, lower end first.
        won: mentions that only the new model links correctly.
        lost: mentions that only the champion links correctly.
        may_be_chance: True if the new model is not better at the requested confidence.
    """

    mentions: int
    new: float
    champion: float
    difference: float
    interval: tuple[float, float]
    won: int
    lost: int
    may_be_chance: bool


class ComparisonMetrics(MetricsModel):
    """Metrics of ``compare``. Without a champion only the accuracy of the run's own model is known."""

    unnormalized_accuracy: float
    champion: ComparedChampion | None
    overall: ComparedGroup | None = None
    worlds: dict[str, ComparedGroup] = Field(default_factory=dict)


class Decision(ComparisonMetrics):
    """Metrics of ``promote``: the decision about a model, its reason, and the metrics of ``compare``."""

    promoted: bool
    reason: str
