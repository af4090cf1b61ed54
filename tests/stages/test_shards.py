"""A world that is encoded in shards, by processes that stand in for pods."""

import os
import random
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from tests.support.faults import Fault
from tests.support.finished import FACTS
from tests.support.fork_server import fork_server
from zeshel_tasks.cli import main
from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.data.shards import shard_of
from zeshel_tasks.data.zeshel import Document, document_line
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_OK
from zeshel_tasks.evaluation import encoding
from zeshel_tasks.evaluation.entity_encoding import TOKENS, VECTORS, EntityEncoder
from zeshel_tasks.models.biencoder import new_biencoder, save_biencoder
from zeshel_tasks.models.tokenizer import load_tokens
from zeshel_tasks.pipeline.contract import scratch_space
from zeshel_tasks.pipeline.job import Job, Target
from zeshel_tasks.pipeline.lineage import read_inputs
from zeshel_tasks.pipeline.world_shards import encoded_shard, large_worlds
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.stages.encode_world import LoadEncoder, encoded_world, loader
from zeshel_tasks.store import Attempt, LocalStore, Run, Store, artifact_folder, open_run
from zeshel_tasks.store.artifacts import manifest_key

WORLD, ENTITIES, SHARDS, KILLED = "large", 1500, 8, 2
SETTINGS = {"sharded_from": "1400", "vector_dtype": "float32", "precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def model(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bi-encoder."""
    torch.manual_seed(0)
    config = TrainBiencoderConfig(max_context_length=16, max_cand_length=24)
    biencoder, settings = new_biencoder(golden / "bert", config)
    folder = tmp_path_factory.mktemp("biencoder")
    save_biencoder(biencoder, settings, load_tokens(golden / "bert", lowercase=True).tokenizer, folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, model: Path) -> Run:
    """A run with a large world that was downloaded, and a bi-encoder."""
    return run_at(tmp_path / "store", model, [entity(number) for number in range(ENTITIES)])


@pytest.fixture
def recipe() -> Recipe:
    return build_recipe("recommended", SETTINGS)


def test_only_the_shards_of_killed_processes_run_again(run: Run, recipe: Recipe, tmp_path: Path, fault: Fault) -> None:
    assert main(["cut-worlds", *arguments(run)]) == EXIT_OK
    chosen = random.Random(7)
    killed = sorted(chosen.sample(range(SHARDS), KILLED))
    moments = {shard: chosen.choice(["before", "after"]) for shard in killed}
    first = [in_process(run, shard, moments.get(shard)) for shard in range(SHARDS)]
    assert first == [-signal.SIGKILL if shard in killed else EXIT_OK for shard in range(SHARDS)]
    assert missing(run, recipe) == killed
    before = manifests(run)
    assert [in_process(run, shard, None) for shard in killed] == [EXIT_OK] * KILLED
    assert missing(run, recipe) == []
    assert before.items() <= manifests(run).items(), "the other shards stay as they are"
    fault("encoding: the process of a shard is killed", KILLED)
    undisturbed = whole(run, build_recipe("recommended", {**SETTINGS, "sharded_from": ENTITIES}))
    sharded = of_world(run, recipe, tmp_path, no_encoder)
    for name, rows in undisturbed.items():
        np.testing.assert_array_equal(sharded[name], rows)


def test_stage_encodes_the_shards_that_no_task_has_encoded(run: Run, recipe: Recipe, tmp_path: Path) -> None:
    assert main(["cut-worlds", *arguments(run)]) == EXIT_OK
    assert main(["encode-shard", *arguments(run), "--shard", f"{WORLD}/3", "--shard", f"{WORLD}/5"]) == EXIT_OK
    assert missing(run, recipe) == [0, 1, 2, 4, 6, 7]
    before = manifests(run)
    found = of_world(run, recipe, tmp_path, None)
    assert missing(run, recipe) == []
    assert before.items() <= manifests(run).items()
    assert found[TOKENS].dtype == np.uint16
    assert len(found[VECTORS]) == ENTITIES


def test_changed_entity_changes_one_shard(run: Run, recipe: Recipe, tmp_path: Path, model: Path) -> None:
    found = of_world(run, recipe, tmp_path, None)
    entities = [entity(number) for number in range(ENTITIES)]
    entities[700] = entity(700, "a new text")
    changed = run_at(Path(run.store.address), model, entities, name="second")
    assert main(["cut-worlds", *arguments(changed)]) == EXIT_OK
    assert missing(changed, recipe) == [shard_of("id700", SHARDS)]
    again = of_world(changed, recipe, tmp_path / "again", None)
    differ = np.flatnonzero((again[VECTORS] != found[VECTORS]).any(1))
    assert differ.tolist() == [700]


def test_shard_may_have_no_entity(tmp_path: Path, model: Path) -> None:
    numbers = [number for number in range(60) if shard_of(f"id{number}", SHARDS) != 3][:33]
    run = run_at(tmp_path / "store", model, [entity(number) for number in numbers])
    recipe = build_recipe("recommended", {**SETTINGS, "sharded_from": 32})
    found = of_world(run, recipe, tmp_path, None)
    assert [len(rows) for rows in found.values()] == [33, 33]
    np.testing.assert_allclose(
        found[VECTORS][0], whole(run, build_recipe("recommended", SETTINGS))[VECTORS][0], atol=1e-5
    )


def test_small_worlds_are_not_cut(run: Run, recipe: Recipe) -> None:
    assert large_worlds(run, recipe.eval_biencoder) == {WORLD: SHARDS}
    assert large_worlds(run, build_recipe("recommended", {"sharded_from": ENTITIES}).eval_biencoder) == {}


@pytest.mark.parametrize("name", ["large/8", "large", "small/0", "large/-1"])
def test_unknown_shard_is_refused(run: Run, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encode-shard", *arguments(run), "--shard", name]) == EXIT_CONFIG
    assert f"--shard: expected one of 8 shards such as world/7, got {name}" in capsys.readouterr().out


def entity(number: int, text: str = "") -> Document:
    return Document(f"id{number}", f"Beast {number}", text or "the sword of the old beast " * (number % 5))


def run_at(folder: Path, model: Path, entities: list[Document], name: str = "first") -> Run:
    run = open_run(f"{folder}/runs/{name}")
    documents = folder.parent / f"{name}.json"
    documents.write_bytes(b"".join(map(document_line, entities)))
    commit(run, "download", {f"documents/{WORLD}.json": documents}, {"documents_by_world": {WORLD: len(entities)}})
    commit(run, "convert", {}, {"worlds": {"test": {WORLD: {}}}})
    weights = {f"model/{path.relative_to(model)}": path for path in model.rglob("*") if path.is_file()}
    commit(run, "train-biencoder", weights, {})
    return run


def commit(run: Run, stage: str, files: dict[str, Path], metrics: dict[str, Any]) -> None:
    fingerprint = f"{stage}-{run.run_id}" if stage == "download" else stage
    attempt = Attempt(run.store, artifact_folder(stage, fingerprint))
    for name, path in files.items():
        attempt.add(name, path)
    manifest = attempt.commit(FACTS | {"stage": stage, "fingerprint": fingerprint, "metrics": metrics})
    run.write_record(stage, manifest, reused=False, wall_seconds=1)


def arguments(run: Run) -> list[str]:
    return [f"--run={run.address}", *(f"--{name}={value}" for name, value in SETTINGS.items())]


def in_process(run: Run, shard: int, killed: str | None) -> int | None:
    """Encodes a shard in a process. Returns its exit code."""
    process = fork_server().Process(target=_encode, args=([*arguments(run), f"--shard={WORLD}/{shard}"], killed))
    process.start()
    process.join()
    return process.exitcode


def _encode(given: list[str], killed: str | None) -> None:
    write, commit = EntityEncoder.write, Attempt.commit

    def kill(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    with (
        patch.object(EntityEncoder, "write", kill if killed == "before" else write),
        patch.object(Attempt, "commit", kill if killed == "after" else commit),
    ):
        raise SystemExit(main(["encode-shard", *given]))


def missing(run: Run, recipe: Recipe) -> list[int]:
    """Shards that are not encoded."""
    return [shard for shard in range(SHARDS) if encoded_shard(run, WORLD, shard, recipe.eval_biencoder) is None]


def manifests(run: Run) -> dict[str, bytes | None]:
    """The manifests of all encodings."""
    store: Store = run.store
    assert isinstance(store, LocalStore)
    keys = [key for key in store.keys("artifacts/candidate-encodings/") if key.endswith("manifest.json")]
    assert all(key == manifest_key(key.rpartition("/")[0]) for key in keys)
    return {key: store.get(key) for key in keys}


def no_encoder() -> EntityEncoder:
    raise AssertionError("everything is encoded")


def whole(run: Run, recipe: Recipe) -> dict[str, np.ndarray]:
    """Tokens and vectors as those of a world that is large enough to have the same bits in shards."""
    with scratch_space() as scratch, patch.object(encoding, "_FEW", 0):
        return of_world(run, recipe, scratch, None)


def of_world(run: Run, recipe: Recipe, folder: Path, load: LoadEncoder | None) -> dict[str, np.ndarray]:
    """Tokens and vectors of the world, as a stage gets them."""
    found = read_inputs(run, ("download", "train-biencoder"), (), folder / "cache")
    (folder / "scratch").mkdir(parents=True)
    job = Job(run, recipe, found, Target("eval-biencoder", "test", {}, {}), folder / "scratch")
    config = recipe.eval_biencoder
    encoded = encoded_world(job, WORLD, config, load or loader(job, config))
    return {name: np.load(encoded.path(name)) for name in (TOKENS, VECTORS)}
