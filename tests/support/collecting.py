"""Collects the tests without Python's garbage collector.

Collection imports torch, transformers and Airflow and makes thousands of objects that live until the end. The collector
would walk all of them again and again, and once more at the end.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
