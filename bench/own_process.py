"""Calls a function in a separate process, so that the peak memory of the process is that of the function."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def in_own_process(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a process that has only imported libraries before."""
    context = multiprocessing.get_context("forkserver")
    # The server only imports and never computes, because a fork of a process with running threads can hang.
    context.set_forkserver_preload(["torch", "accelerate", "transformers.models.bert.modeling_bert"])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(function, *args, **kwargs).result()
