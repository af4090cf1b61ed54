"""What ``/metrics`` shows, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from zeshel_tasks import __version__

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MENTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one service. Names and labels are part of the API; no label has a text of a user."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        info = Gauge("zeshel_build_info", "Version of the service.", ["version"], registry=registry)
        info.labels(__version__).set(1)
        self.requests = Counter(
            "zeshel_requests", "Answered requests.", ["method", "path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "zeshel_request_seconds", "Duration of requests.", ["path"], buckets=_SECONDS, registry=registry
        )
        self.open_requests = Gauge("zeshel_open_requests", "Requests in progress.", registry=registry)
        self.mentions = Counter("zeshel_mentions", "Linked mentions.", ["kb"], registry=registry)
        self.nil = Counter("zeshel_nil_mentions", "Mentions without an entity.", ["kb"], registry=registry)
        self.waiting = Gauge("zeshel_waiting_mentions", "Mentions that wait for the models.", registry=registry)
        self.dropped = Counter("zeshel_dropped_mentions", "Mentions whose client has gone.", registry=registry)
        self.batch_mentions = Histogram(
            "zeshel_batch_mentions",
            "Mentions of a batch.",
            buckets=_MENTIONS,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "zeshel_batch_seconds", "Duration of a batch.", buckets=_SECONDS, registry=registry
        )
        self.serving = Gauge(
            "zeshel_serving_info", "Models and content of a knowledge base in use.",
            ["kb", "run", "models", "kb_fingerprint"], registry=registry,
        )  # fmt: skip
        self.entities = Gauge("zeshel_entities", "Entities of a knowledge base.", ["kb"], registry=registry)
        self.is_champion = Gauge(
            "zeshel_is_champion",
            "1 if the champion links, 0 until a refresh.",
            ["kb"],
            registry=registry,
        )
        self.switches = Counter("zeshel_switches", "Changes of models or content.", ["kb"], registry=registry)
        self.follow_errors = Counter(
            "zeshel_follow_errors", "Attempts to follow the store that failed.", registry=registry
        )
        self.edits = Counter("zeshel_edits", "Changes of entities by requests.", ["kb"], registry=registry)

    def page(self) -> bytes:
        """Returns all metrics as text."""
        return generate_latest(self._registry)

    def show_serving(self, name: str, linked_by: Mapping[str, str | None], entities: int) -> None:
        """Shows what links to a knowledge base from now on."""
        self.serving.remove_by_labels({"kb": name})
        self.serving.labels(name, linked_by["run"], linked_by["models"], linked_by["kb_fingerprint"]).set(1)
        self.entities.labels(name).set(entities)
        self.switches.labels(name).inc()
