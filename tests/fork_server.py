"""Processes that a test can kill, forked from a server that has imported the model libraries once."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

# The server only imports. If it computed, torch would start threads, and a fork of a process with threads can hang.
PRELOADED = [
    "torch.distributed",
    "accelerate",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "zeshel_tasks.cli",
    "zeshel_tasks.stages.inputs",
    "zeshel_tasks.stages.train_biencoder",
    "zeshel_tasks.stages.train_crossencoder",
]


def fork_server() -> ForkServerContext:
    """Returns the context to start processes with. Python has one server per process, which the first use starts."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context
