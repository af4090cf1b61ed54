"""Processes that a test can kill, forked from a server that has imported the model libraries and the stages once."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext
from pkgutil import iter_modules

from zeshel_tasks import stages

# The server only imports. If it computed, torch would start threads, and a fork of a process with threads can hang.
PRELOADED = [
    "torch._dynamo",  # accelerate asks whether it is there, which imports it
    "torch.distributed",
    "accelerate",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "zeshel_tasks.cli",
    *(f"zeshel_tasks.stages.{module.name}" for module in iter_modules(stages.__path__)),
]


def fork_server() -> ForkServerContext:
    """Returns the context to start processes with. Python has one server per process, which the first use starts."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context
