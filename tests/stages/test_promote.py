"""compare and promote: decisions by metrics and by the state of the store, and reuse of evaluations."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.store.conftest import manifest_facts as manifest_facts
from tests.support.finished import NAMES, STEPS, copy_of, manifest_of, record_of
from zeshel_tasks.champion import gate
from zeshel_tasks.champion.approval import Approval, record_approval
from zeshel_tasks.champion.champions import KEY, Champions, read_champions
from zeshel_tasks.champion.comparison import compare_accuracy
from zeshel_tasks.champion.gate import decide
from zeshel_tasks.champion.metrics import ComparisonMetrics, Decision
from zeshel_tasks.commands.pipeline import run_pipeline
from zeshel_tasks.config.results import FuseConfig, PromoteConfig
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import ConfigError, TryAgain
from zeshel_tasks.linking.fusion import FUSION_FILE, RETRIEVER_ALONE
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.job import Job, Target
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.stages import compare, promote
from zeshel_tasks.store import Artifact, Attempt, Run, open_run
from zeshel_tasks.store.artifacts import read_manifest


def figures(won: int, lost: int, mentions: int = 1000) -> dict[str, Any]:
    new, champion = np.zeros(mentions, dtype=bool), np.zeros(mentions, dtype=bool)
    new[:won], champion[won : won + lost] = True, True
    return compare_accuracy(new, champion, confidence=0.95, samples=2000, random=np.random.default_rng(1)).dump()


def compared(**worlds: tuple[int, int]) -> dict[str, Any]:
    """Returns metrics of ``compare``, given (won, lost) mentions by world."""
    won, lost = (sum(counts[side] for counts in worlds.values()) for side in (0, 1))
    return {
        "unnormalized_accuracy": 0.5,
        "champion": {
            "run": "before",
            "crossencoder": f"artifacts/train-crossencoder/{'e' * 64}",
            "fusion": f"artifacts/fuse/{'e' * 64}",
            "promoted_at": "y",
            "approval": None,
        },
        "overall": figures(won, lost, 1000 * len(worlds)),
        "worlds": {world: figures(*counts) for world, counts in worlds.items()},
    }


@pytest.mark.parametrize(
    ("measured", "promoted", "reason"),
    [
        (compared(elves=(90, 20), orcs=(80, 30)), True, "better, against champion before: 8.50% instead of 2.50%"),
        (compared(elves=(20, 90), orcs=(30, 80)), False, "no better by the margin of 0 points"),
        (compared(elves=(50, 50), orcs=(50, 50)), False, "no better by the margin of 0 points"),  # a tie
        (compared(elves=(50, 49), orcs=(50, 49)), False, "the difference may be chance"),
        (compared(elves=(200, 0), orcs=(0, 30)), False, "it falls by 3.00 points in orcs, where 2 are allowed"),
        (compared(elves=(200, 0), orcs=(0, 20)), True, "better"),  # exactly at the bound
        ({"unnormalized_accuracy": 0.1, "champion": None}, True, "there was no champion"),
    ],
    ids=["better", "worse", "tie", "chance", "a-world-drops", "a-world-drops-little", "first"],
)
def test_gate_decides_with_a_reason(measured: dict[str, Any], promoted: bool, reason: str) -> None:
    decision = decide(ComparisonMetrics.model_validate(measured), PromoteConfig())
    assert (decision.promoted, decision.reason.startswith(reason)) == (promoted, True), decision.reason
    assert {name: decision.dump()[name] for name in measured} == measured


@pytest.mark.parametrize(("margin", "promoted"), [(0.05, True), (0.07, False)])
def test_gate_applies_the_margin(margin: float, promoted: bool) -> None:
    measured = ComparisonMetrics.model_validate(compared(elves=(90, 20), orcs=(80, 30)))
    assert decide(measured, PromoteConfig(margin=margin)).promoted is promoted


@pytest.fixture(scope="module")
def stocked_run(finished_run: Run, small_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The finished run in a store that also has the artifacts of two other recipes, which no run uses yet.

    A run of one of these recipes only compares, reports and promotes.
    """
    run = copy_of(finished_run, tmp_path_factory.mktemp("stocked"))
    aside = f"{run.store.address}/runs/aside"
    for recipe in (another_seed(small_recipe), other_mentions(small_recipe)):
        for stage, split in STEPS[: NAMES.index("compare")]:
            run_stage(stage, aside, recipe, split)
    for key in list(run.store.keys("runs/aside/")):
        run.store.delete(key)
    return run


@pytest.fixture
def first_run(stocked_run: Run, tmp_path: Path) -> Run:
    """The run of the first champion, in the test's own store."""
    return copy_of(stocked_run, tmp_path)


def sibling(run: Run, name: str) -> Run:
    """Returns another run in the same store."""
    return open_run(f"{run.store.address}/runs/{name}")


def other_mentions(recipe: Recipe) -> Recipe:
    """Returns a recipe with other mentions of each world."""
    return recipe.model_copy(update={"convert": recipe.convert.model_copy(update={"subset_seed": 9})})


def another_seed(recipe: Recipe) -> Recipe:
    """Returns a recipe that trains another model."""
    changed = {
        name: getattr(recipe, name).model_copy(update={"seed": 7}) for name in ("train_biencoder", "train_crossencoder")
    }
    return recipe.model_copy(update=changed)


def test_retraining_reuses_results_and_compares_with_the_champion(
    finished_run: Run, small_recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = copy_of(finished_run, tmp_path)
    store = first.store
    assert manifest_of(first, "compare").metrics["champion"] is None
    assert manifest_of(first, "promote").metrics["reason"] == "there was no champion"
    champion = read_champions(store).champion
    assert champion is not None
    assert champion.run == "first"
    models = ("train-biencoder", "fit-retrieval", "train-crossencoder", "fuse", "calibrate")
    assert champion.folders == tuple(record_of(first, stage).artifact for stage in models)

    # Nothing is new, so everything is reused, including the promotion.
    again = sibling(first, "second")
    run_pipeline(again.address, small_recipe)
    assert [record_of(again, name).reused for name in NAMES] == [True] * len(NAMES)
    assert read_champions(store).champion == champion

    # Another model is compared on the same mentions, without a new evaluation of the champion.
    other = sibling(first, "third")
    with caplog.at_level(logging.INFO, logger="zeshel_tasks"):
        run_pipeline(other.address, another_seed(small_recipe))
    measured = manifest_of(other, "compare").metrics
    evaluated = {run: manifest_of(run, "fuse").metrics["splits"]["test"]["linker"] for run in (first, other)}
    assert measured["champion"]["run"] == "first"
    assert measured["overall"]["champion"] == pytest.approx(evaluated[first]["unnormalized_accuracy"]["micro"])
    assert measured["overall"]["new"] == pytest.approx(evaluated[other]["unnormalized_accuracy"]["micro"])
    for world, found in measured["worlds"].items():
        assert found["new"] == pytest.approx(evaluated[other]["worlds"][world]["unnormalized_accuracy"])
    assert record_of(first, "eval-crossencoder-test").artifact in manifest_of(other, "compare").uses
    decision = manifest_of(other, "promote").metrics
    assert decision == decide(ComparisonMetrics.model_validate(measured), PromoteConfig()).dump()
    assert f"{'promoted' if decision['promoted'] else 'not promoted'}: {decision['reason']}" in caplog.messages
    now = read_champions(store).champion
    assert now is not None
    assert now.run == ("third" if decision["promoted"] else "first")


@pytest.mark.parametrize("approved", [True, False])
def test_champion_has_the_approval_of_its_run(
    finished_run: Run, small_recipe: Recipe, tmp_path: Path, approved: bool
) -> None:
    """A rejection skips `promote` in the DAG; on the command line, it is only no approval."""
    run, stage = copy_of(finished_run, tmp_path), STAGES["promote"]
    run.store.delete(KEY)
    model = record_of(run, "fuse").artifact
    answer = Approval(model=model, approved=approved, by="7", name="Ada", reason="fewer errors", at="2026-01-02")
    record_approval(run, answer)
    inputs = {name: run.artifact(name, tmp_path) for name in stage.inputs}
    promote.deliver(run, small_recipe, run.artifact("promote", tmp_path), inputs)
    champion = read_champions(run.store).champion
    assert champion is not None
    assert champion.approval == (answer if approved else None)


def test_champion_retrieves_with_its_own_weights(
    first_run: Run, small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A champion of an earlier version has none: its bi-encoder retrieves alone."""
    champion = read_champions(first_run.store).champion
    assert champion is not None
    stage = STAGES["compare"]
    inputs = {name: first_run.artifact(name, tmp_path) for name in stage.inputs}
    job = Job(first_run, small_recipe, inputs, Target("compare", None, {}, {}), tmp_path)
    read: list[dict[str, str]] = []

    def evaluate(job: Job, stage: Any, split: Any, recipe: Any, inputs: dict[str, Artifact]) -> Artifact:
        read.append({name: artifact._folder for name, artifact in inputs.items()})
        return job.inputs[f"{stage.name}-{split}"]

    monkeypatch.setattr(compare, "artifact_of_others", evaluate)
    for retriever in (champion.retriever, None):
        compare._evaluated(job, champion.model_copy(update={"retriever": retriever}))
    assert [evaluation.get("fit-retrieval") for evaluation in read[::2]] == [champion.retriever, None]


@pytest.mark.parametrize("part", ["retriever", "crossencoder"])
def test_champion_links_with_its_own_final_score(
    first_run: Run, small_recipe: Recipe, manifest_facts: dict[str, Any], tmp_path: Path, part: str
) -> None:
    """A champion of an earlier version has no weights: its cross-encoder decides alone."""
    store, parts = first_run.store, manifest_of(first_run, "fuse").metrics["splits"]["test"]
    champion = read_champions(store).champion
    assert champion is not None
    own = None
    if part == "retriever":
        own = f"artifacts/fuse/{'e' * 64}"
        attempt = Attempt(store, own)
        (tmp_path / FUSION_FILE).write_text(RETRIEVER_ALONE.model_dump_json())
        attempt.add(FUSION_FILE, tmp_path / FUSION_FILE)
        attempt.commit({**manifest_facts, "stage": "fuse", "fingerprint": "e" * 64})
    store.delete(KEY)
    assert read_champions(store).promote(champion.model_copy(update={"fusion": own}))
    run = sibling(first_run, "after")
    for stage, split in STEPS[: NAMES.index("report")]:
        run_stage(stage, run.address, another_seed(small_recipe), split)
    measured = manifest_of(run, "compare").metrics
    assert measured["champion"]["fusion"] == own
    assert measured["overall"]["champion"] == pytest.approx(parts[part]["unnormalized_accuracy"]["micro"])
    assert measured["overall"]["new"] == pytest.approx(measured["unnormalized_accuracy"])


def test_other_final_score_is_compared_with_the_champion(first_run: Run, small_recipe: Recipe) -> None:
    """The models are the same, but not what links."""
    alone = small_recipe.model_copy(update={"fuse": FuseConfig(final_score="crossencoder")})
    run = sibling(first_run, "alone")
    run_pipeline(run.address, alone)
    assert [name for name in NAMES if not record_of(run, name).reused] == [
        "fuse",
        "calibrate",
        "compare",
        "report",
        "promote",
    ]
    parts = {
        linker.run_id: manifest_of(linker, "fuse").metrics["splits"]["test"]["linker"] for linker in (first_run, run)
    }
    overall = manifest_of(run, "compare").metrics["overall"]
    assert overall["new"] == pytest.approx(parts["alone"]["unnormalized_accuracy"]["micro"])
    assert overall["champion"] == pytest.approx(parts["first"]["unnormalized_accuracy"]["micro"])


def test_champion_is_evaluated_on_new_test_mentions(first_run: Run, small_recipe: Recipe) -> None:
    recipe = other_mentions(small_recipe)
    run = sibling(first_run, "other-mentions")
    run_pipeline(run.address, recipe)
    overall = manifest_of(run, "compare").metrics["overall"]
    new = manifest_of(run, "fuse").metrics["splits"]["test"]["linker"]
    assert overall["mentions"] == new["mentions"]
    assert overall["new"] == pytest.approx(new["unnormalized_accuracy"]["micro"])
    uses = {key.rsplit("/", 1)[1].partition("-")[0] for key in run.store.keys(f"runs/{run.run_id}/uses/")}
    assert "eval" in uses, "the champion's evaluation is recorded, so that no cleanup takes it"


def forced(monkeypatch: pytest.MonkeyPatch, promoted: bool) -> None:
    """Replaces the gate's decision, independent of the metrics."""

    def decide(measured: ComparisonMetrics, _: PromoteConfig) -> Decision:
        return Decision(promoted=promoted, reason="said so", **dict(measured))

    monkeypatch.setattr(gate, "decide", decide)


def test_rolled_back_model_is_not_promoted_again(
    first_run: Run, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced(monkeypatch, promoted=True)
    better = sibling(first_run, "better")
    run_pipeline(better.address, another_seed(small_recipe))
    store = better.store
    assert read_champions(store).champion is not None
    assert [found.run for found in read_champions(store).earlier] == ["first"]
    read_champions(store).roll_back("odd links")

    again = sibling(first_run, "again")
    run_pipeline(again.address, another_seed(small_recipe))
    decision = manifest_of(again, "promote").metrics
    assert decision["promoted"] is False
    assert decision["reason"].endswith(": odd links")
    champion = read_champions(store).champion
    assert champion is not None
    assert champion.run == "first"


def test_retry_completes_a_promotion_that_died_before_its_commit(
    first_run: Run, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced(monkeypatch, promoted=True)
    better = sibling(first_run, "better")
    recipe = another_seed(small_recipe)
    run_pipeline(better.address, recipe)
    decided = manifest_of(better, "promote")
    record = record_of(better, "promote")
    better.store.delete(f"{record.artifact}/manifest.json")  # as if it had died before the commit
    forced(monkeypatch, promoted=False)
    run_stage(STAGES["promote"], better.address, recipe)
    assert manifest_of(better, "promote").metrics == decided.metrics
    assert [found.run for found in read_champions(better.store).earlier] == ["first"]


def test_champion_changed_since_comparison_is_not_replaced(
    first_run: Run, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced(monkeypatch, promoted=True)
    run = sibling(first_run, "late")
    recipe = another_seed(small_recipe)
    for stage, split in STEPS[:-1]:
        run_stage(stage, run.address, recipe, split)
    swap = Champions.promote
    champions = read_champions(run.store)
    assert champions.champion is not None
    rival = champions.champion.model_copy(update={"run": "rival", "fusion": "artifacts/fuse/rival"})

    def beaten_to_it(self: Champions, candidate: Any) -> bool:
        monkeypatch.setattr(Champions, "promote", swap)
        assert read_champions(run.store).promote(rival)
        return swap(self, candidate)

    monkeypatch.setattr(Champions, "promote", beaten_to_it)
    with pytest.raises(TryAgain, match="champion has changed since the model was compared"):
        run_stage(STAGES["promote"], run.address, recipe)
    run_stage(STAGES["promote"], run.address, recipe)
    decision = manifest_of(run, "promote").metrics
    assert decision["promoted"] is False
    assert "clear `compare`" in decision["reason"]
    assert read_champions(run.store).champion == rival


def test_champion_is_promoted_again_after_its_file_is_deleted(first_run: Run, small_recipe: Recipe) -> None:
    """The decision is reused, but it is outdated."""
    run, store = first_run, first_run.store
    before = read_champions(store).champion
    store.delete(KEY)
    run_stage(STAGES["compare"], run.address, small_recipe)
    run_stage(STAGES["promote"], run.address, small_recipe)
    now = read_champions(store).champion
    assert before is not None
    assert now is not None
    assert now.folders == before.folders
    promoted_at = now.promoted_at
    run_stage(STAGES["promote"], run.address, small_recipe)
    again = read_champions(store).champion
    assert again is not None
    assert again.promoted_at == promoted_at


def test_retrained_model_without_comparison_is_not_promoted(first_run: Run, small_recipe: Recipe) -> None:
    """The training was repeated by hand, but not the stages after it."""
    run = sibling(first_run, "by-hand")
    for stage, split in STEPS[:-1]:
        run_stage(stage, run.address, small_recipe, split)
    trained = small_recipe.train_crossencoder.model_copy(update={"seed": 7})
    run_stage(
        STAGES["train-crossencoder"], run.address, small_recipe.model_copy(update={"train_crossencoder": trained})
    )
    with pytest.raises(ConfigError, match="compare: expected one that was made from the run's train-crossencoder"):
        run_stage(STAGES["promote"], run.address, small_recipe)


def test_champion_evaluation_uses_run_settings_and_own_batch_size(
    first_run: Run, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that change results are those of the run. Device and batch size are those of the machine."""
    run = sibling(first_run, "elsewhere")
    recipe = other_mentions(small_recipe)
    for stage, split in STEPS[: NAMES.index("compare")]:
        run_stage(stage, run.address, recipe, split)
    batches = {name: getattr(recipe, name).model_copy(update={"eval_batch_size": 3}) for name in ("eval_biencoder",)}
    run_stage(STAGES["compare"], run.address, recipe.model_copy(update=batches))
    ours = manifest_of(run, "eval-biencoder-test")
    champions = [read_manifest(run.store, folder) for folder in manifest_of(run, "compare").uses]
    (evaluated,) = [manifest for manifest in champions if manifest is not None and manifest.stage == "eval-biencoder"]
    assert evaluated.inputs["train-biencoder"] == record_of(first_run, "train-biencoder").fingerprint
    assert ours.config["eval_batch_size"] == recipe.eval_biencoder.eval_batch_size
    assert evaluated.config["eval_batch_size"] == 3
    assert evaluated.config["top_k"] == ours.config["top_k"]


def test_missing_champion_model_error_says_what_to_do(first_run: Run, small_recipe: Recipe) -> None:
    run = sibling(first_run, "after")
    for stage, split in STEPS[: NAMES.index("compare")]:
        run_stage(stage, run.address, another_seed(small_recipe), split)
    folder = record_of(first_run, "train-crossencoder").artifact
    run.store.delete(f"{folder}/manifest.json")
    with pytest.raises(ConfigError, match=r"is gone: restore it, .* or delete the file to start without a champion"):
        run_stage(STAGES["compare"], run.address, another_seed(small_recipe))
