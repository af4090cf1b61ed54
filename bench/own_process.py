"""Calls a function in a process of its own, so that its peak of memory is that of the function."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def in_own_process(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function in a process that has done nothing before but import libraries."""
    context = multiprocessing.get_context("forkserver")
    # The server imports and never computes: a fork of a process with threads at work would hang.
    context.set_forkserver_preload(["torch", "accelerate", "transformers.models.bert.modeling_bert"])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(function, *args, **kwargs).result()
