"""The smoke preset learns to link in unseen worlds: as the demo, with fewer mentions and candidates to save time."""

from pathlib import Path

import pytest

from zeshel_tasks.commands.pipeline import run_pipeline
from zeshel_tasks.demo.sample_worlds import write_sample_worlds
from zeshel_tasks.demo.small_bert import build_small_bert
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Manifest, open_run


def manifest(run: str, name: str) -> Manifest:
    found = open_run(run).manifest(name)
    assert found is not None
    return found


@pytest.mark.timeout(600)
def test_demo_learns_to_link_entities_of_unseen_worlds(tmp_path: Path) -> None:
    archive, bert = tmp_path / "worlds.tar.bz2", tmp_path / "bert"
    write_sample_worlds(archive)
    build_small_bert(archive, bert)
    inputs = {"source": str(archive), "bert_model": str(bert)}
    fewer = {"convert.max_mentions_per_world": 60, "eval_biencoder.top_k": 8, "train_crossencoder.train_candidates": 4}
    trained, untrained = f"{tmp_path}/runs/trained", f"{tmp_path}/runs/untrained"
    run_pipeline(trained, build_recipe("smoke", inputs, fewer))
    without_training = build_recipe("smoke", inputs, {**fewer, "num_train_epochs": 0})
    for name in ("download", "convert", "train-biencoder", "fit-retrieval"):
        run_stage(STAGES[name], untrained, without_training)
    run_stage(STAGES["eval-biencoder"], untrained, without_training, "test")

    retrieval, retrieval_untrained = (manifest(run, "eval-biencoder-test").metrics for run in (trained, untrained))
    recall, recall_untrained = (found["methods"]["biencoder"]["micro"] for found in (retrieval, retrieval_untrained))
    accuracy = manifest(trained, "eval-crossencoder-test").metrics["unnormalized_accuracy"]["micro"]
    assert recall["8"] >= 3 * recall_untrained["8"], (recall, recall_untrained)
    for method in ("biencoder", "bm25", "exact_title"):
        together, alone = retrieval["recall"]["micro"], retrieval["methods"][method]["micro"]
        assert all(together[k] >= alone[k] - 0.03 for k in ("1", "4", "8")), (method, together, alone)
    assert accuracy > recall["1"] + 0.05, (accuracy, recall)
