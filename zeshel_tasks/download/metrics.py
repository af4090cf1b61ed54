"""Metrics of ``download``."""

from __future__ import annotations

from zeshel_tasks.config.splits import Split
from zeshel_tasks.metrics import MetricsModel


class SourceMetrics(MetricsModel):
    """A data set as it was downloaded: its address without secrets, its content, and its worlds."""

    source: str
    sha256: str
    bytes: int
    worlds: tuple[str, ...]


class DownloadMetrics(MetricsModel):
    """The merged data set.

    Attributes:
        worlds: number of worlds.
        documents: number of documents.
        documents_by_world: number of documents of each world.
        mentions: by split.
        sources: the data sets, in the order in which they were merged.
        assigned: worlds that a setting put into a split.
    """

    worlds: int
    documents: int
    documents_by_world: dict[str, int]
    mentions: dict[str, int]
    sources: tuple[SourceMetrics, ...]
    assigned: dict[str, Split]
