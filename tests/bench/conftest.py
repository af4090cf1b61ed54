"""Fixtures: the golden data set and its tiny BERT as inputs of both sides."""

import logging
from multiprocessing import forkserver
from pathlib import Path

import pytest

from bench import ours
from bench.plain.biencoder import PlainBiencoder
from bench.plain.crossencoder import PlainCrossencoder
from bench.stages.inputs import Inputs
from tests.bench.blinks_weights import load_blinks
from tests.support.fork_server import fork_server
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.models.biencoder import Biencoder
from zeshel_tasks.models.crossencoder import Crossencoder
from zeshel_tasks.recipe import build_recipe


@pytest.fixture(autouse=True)
def _only_pytest_handles_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep stdout free for what a bench prints: Airflow, which other tests import, prints logs there."""
    root = logging.getLogger()
    handlers = [handler for handler in root.handlers if type(handler).__module__.startswith("_pytest.")]
    monkeypatch.setattr(root, "handlers", handlers)


@pytest.fixture(scope="session")
def bench_recipe() -> Recipe:
    return build_recipe(
        "recommended",
        {
            "precision": "fp32",
            "pooling": "cls",
            "similarity": "dot",
            "train_candidates": None,
            "learning_rate": 1e-5,
            "device": "cpu",
            "max_context_length": 64,
            "max_cand_length": 64,
            "max_seq_length": 128,
            "train_biencoder.train_batch_size": 16,
            "train_biencoder.mask_duplicate_golds": False,  # as in the comparator
            "top_k": 16,
            "eval_biencoder.eval_batch_size": 7,
            "encode_batch_size": 9,
            "vector_dtype": "float32",
        },
    )


@pytest.fixture(scope="session")
def inputs(golden: Path, bench_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs(golden / "raw", golden / "bert", bench_recipe, tmp_path_factory.mktemp("bench"))


@pytest.fixture
def biencoders(inputs: Inputs, golden: Path) -> tuple[PlainBiencoder, Biencoder]:
    """The comparator's bi-encoder and ours, with BLINK's trained weights and without dropout.

    The tiny BERT itself encodes all texts as almost the same vector, so rounding would decide which are retrieved.
    """
    weights = golden / "bi" / "pytorch_model.bin"
    plain = PlainBiencoder(inputs.model).eval()
    load_blinks(plain, weights)
    model, _ = ours.start_biencoder(inputs.model, inputs.recipe, weights)
    return plain, model.eval()


@pytest.fixture
def crossencoders(inputs: Inputs, golden: Path) -> tuple[PlainCrossencoder, Crossencoder]:
    """The comparator's cross-encoder and ours, with BLINK's trained weights and without dropout."""
    weights = golden / "cross" / "pytorch_model.bin"
    plain = PlainCrossencoder(inputs.model).eval()
    load_blinks(plain, weights)
    model, _ = ours.start_crossencoder(inputs.model, inputs.recipe, weights)
    return plain, model.eval()


@pytest.fixture(scope="session")
def one_fork_server() -> None:
    """Starts the server with the imports of all tests, before a script starts it with fewer."""
    fork_server()
    forkserver.ensure_running()
