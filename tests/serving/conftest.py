"""A store with a champion and a knowledge base, and a service of it that tests share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.running import Running, running
from tests.support.finished import copy_with_knowledge_base
from zeshel_tasks.store import Run

WORLD = "grove"


@pytest.fixture(scope="package", autouse=True)
def _no_precision_of_another_test() -> Iterator[None]:
    """Keeps the state of accelerate, which a service needs as long as it runs."""
    yield
    if (state := sys.modules.get("accelerate.state")) is not None:
        state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def run(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run whose models are the champion of its store, which has a knowledge base."""
    return copy_with_knowledge_base(finished_run, tmp_path_factory.mktemp("serve"), WORLD)


@pytest.fixture(scope="module")
def served(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service."""
    folder: Path = tmp_path_factory.mktemp("served")
    with running(run.store, [WORLD], folder, {"max_waiting_mentions": 100_000}) as found:
        yield found
