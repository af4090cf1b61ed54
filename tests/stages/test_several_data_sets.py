"""The whole recipe on merged data sets, with an evaluation of held-out mentions if there are any."""

from __future__ import annotations

import json

import pytest

from tests.support.data_set_files import write_wiki
from tests.support.finished import NAMES, manifest_of
from zeshel_tasks.cli import main
from zeshel_tasks.commands.pipeline import run_pipeline
from zeshel_tasks.config.splits import HELDOUT_SPLITS
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import EXIT_CONFIG
from zeshel_tasks.store import Run, open_run

EVALUATIONS = [f"{stage}-{split}" for stage in ("eval-biencoder", "eval-crossencoder") for split in HELDOUT_SPLITS]


@pytest.fixture(scope="module")
def merged_recipe(small_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    wiki = write_wiki(tmp_path_factory.mktemp("wiki"))
    download = small_recipe.download.model_copy(
        update={"more_sources": (str(wiki),), "worlds_to_splits": ("quill=test",)}
    )
    return small_recipe.model_copy(update={"download": download})


@pytest.fixture(scope="module")
def merged_run(merged_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = open_run(str(tmp_path_factory.mktemp("merged") / "store" / "runs" / "both"))
    run_pipeline(run.address, merged_recipe)
    return run


def test_added_worlds_are_used_in_training_and_test(merged_run: Run) -> None:
    worlds = manifest_of(merged_run, "convert").metrics["worlds"]
    assert "delta" in worlds["train"]
    assert "quill" not in worlds["train"]
    accuracy = manifest_of(merged_run, "eval-crossencoder-test").metrics["worlds"]
    assert accuracy["quill"]["mentions"] == 3
    assert len(accuracy) > 1


def test_held_out_mentions_are_evaluated_and_reported(merged_run: Run) -> None:
    assert {name: manifest_of(merged_run, name).metrics["mentions"] for name in EVALUATIONS} == dict(
        zip(EVALUATIONS, [1, 6, 1, 6], strict=True)
    )
    assert set(EVALUATIONS) <= manifest_of(merged_run, "report").inputs.keys()
    reported = json.loads(merged_run.store.get("runs/both/report/metrics.json") or b"")
    assert set(HELDOUT_SPLITS) <= reported["recall"].keys() & reported["accuracy"].keys()
    assert reported["convert"]["heldout"] == {
        "heldout_train_seen": {"mentions": 1, "gold_in_train": 0},
        "heldout_train_unseen": {"mentions": 6, "gold_in_train": 4},
    }


def test_held_out_evaluations_reuse_the_encodings_of_train(merged_run: Run) -> None:
    of_train = set(manifest_of(merged_run, "eval-biencoder-train").uses)
    for split in HELDOUT_SPLITS:
        used = set(manifest_of(merged_run, f"eval-biencoder-{split}").uses)
        assert used
        assert used <= of_train


def test_report_names_the_data_sets_and_assigned_worlds(merged_run: Run, merged_recipe: Recipe) -> None:
    page = (merged_run.store.get("runs/both/report/index.html") or b"").decode()
    for source in merged_recipe.download.sources:
        assert source in page
    assert "quill to" in page
    provenance = json.loads(merged_run.store.get("runs/both/report/metrics.json") or b"")["provenance"]
    assert provenance["assigned"] == {"quill": "test"}
    assert [source["worlds"] for source in provenance["sources"]][1] == ["delta", "quill"]


def test_held_out_split_is_refused_without_held_out_mentions(
    finished_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [name for name in (*NAMES, *EVALUATIONS) if finished_run.record(name) is not None] == NAMES
    command = ["eval-biencoder", "--run", finished_run.address, "--split", "heldout_train_seen"]
    assert main(command) == EXIT_CONFIG
    assert "--split: expected a split of the data set, got heldout_train_seen" in capsys.readouterr().out
