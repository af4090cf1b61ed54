"""bench.views: its views and their scores, and the script at a size of seconds."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench.quality.biencoders import biencoder_config
from bench.quality.rows import RETRIEVER
from bench.quality.sample import Sample
from bench.views.linker import Shape, new_training
from bench.views.objective import ViewsObjective
from bench.views.views import Views, best_of_views
from zeshel_tasks.compute.device import build_accelerator
from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.data.tokens import Tokens
from zeshel_tasks.models.batches import token_batch
from zeshel_tasks.models.bert import load_tokenizer

ROOT = Path(__file__).parents[2]
WORDS = [f"w{number}" for number in range(60)]


@pytest.fixture(scope="module")
def tokens(golden: Path) -> Tokens:
    return Tokens(load_tokenizer(golden / "bert", lowercase=True))


def test_a_long_description_has_views_that_follow_one_another(tokens: Tokens) -> None:
    views = Views.of([("a", " ".join(WORDS)), ("b", "short"), ("c", "")], most=2, length=20, tokens=tokens)
    assert views.first.tolist() == [0, 2, 3, 4]
    expected = tokens.candidates([("a", " ".join(WORDS[:14])), ("a", " ".join(WORDS[14:28]))], 20)
    np.testing.assert_array_equal(views.tokens[:2], expected)


def test_one_view_is_the_beginning_as_everywhere_else(tokens: Tokens) -> None:
    entity = ("a", " ".join(WORDS))
    np.testing.assert_array_equal(Views.of([entity], 1, 20, tokens).tokens, tokens.candidates([entity], 20))


def test_an_entity_scores_as_its_best_view() -> None:
    scores = np.array([[0.1, 0.9, 0.3], [0.5, 0.2, 0.8]], dtype=np.float32)
    np.testing.assert_array_equal(best_of_views(scores, np.array([0, 2])), np.float32([[0.9, 0.3], [0.5, 0.8]]))


def test_the_loss_is_that_of_the_best_views(golden: Path, tokens: Tokens, tmp_path: Path) -> None:
    sample = Sample(golden / "raw", tokens, 32, 10_000, tmp_path)
    task = new_training(Shape(3, 12), sample, golden / "bert", seed=0, mentions=8)
    accelerator = build_accelerator(biencoder_config(RETRIEVER, sample, 0))
    model, objective = task.build(task, accelerator)
    assert isinstance(objective, ViewsObjective)
    pairs, views = GoldPairs.load(task.tables / "train"), Views.load(task.tables / "views")
    assert len(views.tokens) > len(pairs.golds)
    with torch.no_grad():
        (part,) = objective.parts(model.eval(), np.arange(8), 1)
        device = accelerator.device
        contexts, vectors = model(
            token_batch(pairs.mentions.contexts[:8], tokens.pad, device), token_batch(views.tokens, tokens.pad, device)
        )
        best = torch.from_numpy(best_of_views((contexts @ vectors.T).numpy(), views.first[:-1]))
        torch.testing.assert_close(part.loss, F.cross_entropy(best, torch.from_numpy(pairs.gold_row[:8].copy())))


def test_the_script_measures_each_shape(golden: Path) -> None:
    command = [
        sys.executable, "-m", "bench.views", f"--data={golden / 'raw'}", f"--model={golden / 'bert'}",
        "--seconds=0.2", "--seeds=2", "--shapes", "1x32", "2x16", "--recall_mentions=4",
    ]  # fmt: skip
    bench = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert bench.returncode == 0, bench.stdout + bench.stderr
    assert re.findall(r"^(\d+x\d+): ", bench.stdout, re.M) == ["1x32", "2x16"]
    views = [float(value) for value in re.findall(r"([\d.]+) views an entity", bench.stdout)]
    assert views[:2] == [1.0, 1.0]
    assert all(1 < value <= 2 for value in views[2:])
    recalls = [float(value) for value in re.findall(r"R@\d+ ([\d.]+)", bench.stdout)]
    assert len(recalls) == 2 * 3 * 3
    assert all(0 <= value <= 100 for value in recalls)
