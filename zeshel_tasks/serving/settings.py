"""Settings of ``zeshel serve``."""

from __future__ import annotations

from typing import Literal

from zeshel_tasks.config.stage_config import StageConfig, setting

LINK_SETTINGS = (
    "device", "candidates", "mode", "top_k", "threshold", "nil_share", "tokenized",
    "eval_batch_size", "score_batch_size", "stall_minutes",
)  # fmt: skip
"""Settings of :class:`~zeshel_tasks.config.link.LinkConfig` that a service has. A request may override some of them."""


class ServeConfig(StageConfig):
    """Link texts over HTTP. Not a stage of the recipe."""

    host: str = setting(
        "127.0.0.1",
        "Address to listen at; 0.0.0.0 for all of this machine, :: for those of IPv6 as well.",
        min_length=1,
    )
    port: int = setting(8000, "Port to listen at; 0 for any free one.", ge=0, le=65535)
    wait: bool = setting(
        False, "Wait for a champion and for knowledge bases that are not there yet, instead of ending with exit code 2."
    )
    poll_seconds: float = setting(
        2.0, "Seconds between looks for a new champion and changed knowledge bases.", ge=0.05, le=60
    )
    switch: Literal["beside", "in-turn"] = setting(
        "beside",
        "How a new champion takes over: its models are loaded beside those in use, which needs memory for both; or "
        "in turn: one replica after the other frees those in use first, and answers with status 503 meanwhile.",
    )
    leave_seconds: float = setting(
        10.0,
        "With --switch in-turn, seconds for which a replica goes on to answer after /readyz says that it leaves, and "
        "from when it is ready again until the next one leaves.",
        ge=0, le=3600,
    )  # fmt: skip
    batch_mentions: int = setting(32, "Most mentions that the models get at once.", ge=1, le=1024)
    batch_wait_ms: float = setting(
        5.0, "Milliseconds that the models wait until as many requests have come as there were a moment before.",
        ge=0, le=1000,
    )  # fmt: skip
    max_waiting_mentions: int = setting(
        1024, "Mentions that may wait for the models. Beyond, requests get status 429.", ge=1, le=1_000_000
    )
    max_requests: int = setting(256, "Requests in progress. Beyond, requests get status 429.", ge=1, le=100_000)
    max_connections: int = setting(
        512, "Open connections. Beyond, the one that has been without a request for the longest is closed.",
        ge=1, le=100_000,
    )  # fmt: skip
    head_seconds: float = setting(
        10.0, "Seconds that a request's head may take to arrive, on a new connection from its beginning.",
        ge=0.1, le=3600,
    )  # fmt: skip
    idle_seconds: int = setting(75, "Seconds that a connection is kept open between two requests.", ge=1, le=3600)
    send_seconds: float = setting(60.0, "Seconds that a client may take to read an answer.", ge=0.1, le=3600)
    max_body_bytes: int = setting(2**20, "Most bytes of a request's body.", ge=1000, le=2**30)
    body_seconds: float = setting(10.0, "Seconds that a request's body may take to arrive.", ge=0.1, le=3600)
    max_documents: int = setting(64, "Most documents of a request.", ge=1, le=10_000)
    max_mentions: int = setting(256, "Most mentions of a request, in all its documents.", ge=1, le=100_000)
    max_mention_characters: int = setting(1000, "Most characters of a mention.", ge=1, le=1_000_000)
    max_entities: int = setting(
        1000, "Most entities that a request may add, or ids that it may remove.", ge=1, le=1_000_000
    )
    max_top_k: int = setting(100, "Most candidates of a mention that a request may ask for.", ge=1, le=10_000)
    drain_seconds: int = setting(
        25, "Seconds after SIGTERM in which requests in progress may end; Kubernetes kills after 30.", ge=0, le=3600
    )
