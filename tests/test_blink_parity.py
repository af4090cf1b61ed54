"""The stages compute the same numbers as BLINK itself (``golden/README.md``)."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from tests.support.finished import STEPS
from tests.support.near_ties import assert_same_ranking
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.data.mention_table import MentionTable, tokenize_mentions, tokenize_pairs
from zeshel_tasks.data.search_set import SearchSet
from zeshel_tasks.data.tokens import Tokens, TokenTable
from zeshel_tasks.evaluation.encoding import encode_rows
from zeshel_tasks.evaluation.rerank import candidate_scores
from zeshel_tasks.models.biencoder import load_biencoder, new_biencoder
from zeshel_tasks.models.crossencoder import load_crossencoder
from zeshel_tasks.models.tokenizer import load_tokenizer, load_tokens
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Artifact, Run, open_run
from zeshel_tasks.store.artifacts import read_manifest
from zeshel_tasks.training.biencoder_objective import BiencoderObjective

GOLDEN = Path(__file__).parent / "golden"
SUMMARY = json.loads((GOLDEN / "summary.json").read_text())
SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def recipe(raw_archive: Path) -> Recipe:
    return build_recipe(
        "blink",
        {
            "source": str(raw_archive),
            "bert_model": str(GOLDEN / "bert"),
            "biencoder_weights": str(GOLDEN / "bi" / "pytorch_model.bin"),
            "crossencoder_weights": str(GOLDEN / "cross" / "pytorch_model.bin"),
            "num_train_epochs": 0,
            "max_context_length": 64,
            "max_cand_length": 64,
            "max_seq_length": 128,
            "top_k": SUMMARY["top_k"],
            "candidate_form": "blink_eval",
            "eval_batch_size": 7,
        },
    )


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    address = str(tmp_path_factory.mktemp("store") / "runs" / "parity")
    for stage, split in STEPS[:7]:
        run_stage(stage, address, recipe, split)
    return open_run(address)


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return load_tokens(GOLDEN / "bert", lowercase=True)


def golden_top(split: str) -> dict[str, torch.Tensor]:
    return torch.load(GOLDEN / "top16_candidates" / f"{split}.t7", weights_only=True)


def artifact(run: Run, name: str, tmp_path: Path) -> Artifact:
    return run.artifact(name, tmp_path)


def converted(run: Run, split: str, tmp_path: Path) -> Path:
    files = artifact(run, "convert", tmp_path)
    files.path(f"{split}.mentions.jsonl")
    return files.path(f"{split}.jsonl")


def encodings(run: Run, split: str, tmp_path: Path) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    folders = json.loads(artifact(run, f"eval-biencoder-{split}", tmp_path).path("encodings.json").read_text())
    for world, folder in folders.items():
        manifest = read_manifest(run.store, folder)
        assert manifest is not None
        files = Artifact(run.store, folder, manifest, tmp_path)
        yield SUMMARY["worlds"].index(world), np.load(files.path("tokens.npy")), np.load(files.path("vectors.npy"))


@pytest.mark.parametrize("split", SPLITS)
def test_jsonl_matches_blink_byte_for_byte(run: Run, split: str, tmp_path: Path) -> None:
    ours = artifact(run, "convert", tmp_path).path(f"{split}.jsonl").read_bytes()
    assert ours == (GOLDEN / "blink_format" / f"{split}.jsonl").read_bytes()


@pytest.mark.parametrize("split", SPLITS)
def test_candidate_pool_and_encodings_match_blink(run: Run, split: str, tmp_path: Path) -> None:
    pools = torch.load(GOLDEN / f"cand_pool_{split}.pt", weights_only=True)
    vectors = torch.load(GOLDEN / f"cand_enc_{split}.pt", weights_only=True)
    ours = list(encodings(run, split, tmp_path))
    assert {world for world, _, _ in ours} == set(pools)
    for world, pool, encoded in ours:
        np.testing.assert_array_equal(pool, pools[world].numpy())
        np.testing.assert_allclose(encoded, vectors[world].numpy(), atol=1e-5)


@pytest.mark.parametrize("split", SPLITS)
def test_retrieved_candidates_match_blink(run: Run, split: str, tokens: Tokens, tmp_path: Path) -> None:
    """Scores of up to 57 have near-ties of 4e-6, whose order depends on the CPU."""
    evaluated, golden = artifact(run, f"eval-biencoder-{split}", tmp_path), golden_top(split)
    pools = {world: pool for world, pool, _ in encodings(run, split, tmp_path)}
    table = tokenize_mentions(converted(run, split, tmp_path), tokens, 64, tmp_path / "mentions")
    rank, candidates = np.load(evaluated.path("gold_rank.npy")), np.load(evaluated.path("candidates.npy"))
    kept = np.flatnonzero(rank >= 0)
    worlds = [SUMMARY["worlds"].index(table.worlds[world]) for world in table.world[kept]]
    assert worlds == golden["worlds"].tolist()
    np.testing.assert_array_equal(table.contexts[kept], golden["context_vecs"].numpy())
    blinks = np.stack(
        [positions_in(pools[world], rows) for world, rows in zip(worlds, golden["candidate_vecs"].numpy(), strict=True)]
    )
    assert_same_ranking(candidates[kept], blinks, blinks_scores(run, split, table.contexts[kept], worlds, tmp_path))
    mentions = np.arange(len(kept))
    np.testing.assert_array_equal(candidates[kept, rank[kept]], table.label[kept])
    np.testing.assert_array_equal(blinks[mentions, golden["labels"].numpy()], table.label[kept])


def positions_in(pool: TokenTable, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns the position of each row of tokens in the pool."""
    position = {tuple(row): number for number, row in enumerate(pool.tolist())}
    assert len(position) == len(pool), "two entities of the golden data have the same tokens"
    return np.array([position[tuple(row)] for row in rows.tolist()])


def blinks_scores(
    run: Run, split: str, contexts: TokenTable, worlds: list[int], tmp_path: Path
) -> npt.NDArray[np.float64]:
    """Returns scores of all entities of a mention's world, from BLINK's encodings: float64 [mentions, entities]."""
    model, _, tokens = load_biencoder(artifact(run, "train-biencoder", tmp_path).directory("model"))
    encoder = model.eval().context_encoder
    queries = encode_rows(encoder, contexts, tokens.pad, Accelerator(cpu=True)).numpy().astype(np.float64)
    entities = torch.load(GOLDEN / f"cand_enc_{split}.pt", weights_only=True)
    return np.stack([entities[world].numpy() @ query for world, query in zip(worlds, queries, strict=True)])


@pytest.mark.parametrize("split", SPLITS)
def test_recall_matches_log_of_blink(run: Run, split: str) -> None:
    manifest = run.manifest(f"eval-biencoder-{split}")
    assert manifest is not None
    metrics = manifest.metrics

    def line(mentions: int, recall: dict[str, float]) -> str:
        return f"Total: {mentions} examples. " + " ".join(f"r@{k}: {value:.4f}" for k, value in recall.items())

    ours = []
    for world, figures in metrics["worlds"].items():
        ours += [f"In world {world}", line(figures["mentions"], figures["recall"])]
    assert [*ours, line(metrics["mentions"], metrics["recall"]["micro"])] == SUMMARY["recall"][split]


def test_crossencoder_logits_and_accuracy_match_blink(recipe: Recipe, run: Run, tmp_path: Path) -> None:
    run_stage(STEPS[7][0], run.address, recipe)
    model, settings, tokens = load_crossencoder(artifact(run, "train-crossencoder", tmp_path).directory("model"))
    golden = golden_top("valid")
    count = len(golden["labels"])
    # BLINK's candidate tokens, with one pseudo world per mention. The sets differ from ours only in their layout.
    sets = CandidateSets(
        mentions=MentionTable(
            contexts=golden["context_vecs"].numpy().astype(np.int32),
            world=np.arange(count, dtype=np.int32),
            label=np.zeros(count, dtype=np.int32),
            category=np.zeros(count, dtype=np.int32),
            worlds=[str(row) for row in range(count)],
            categories=[""],
        ),
        candidates=np.tile(np.arange(16, dtype=np.int32), (count, 1)),
        gold_rank=golden["labels"].numpy().astype(np.int32),
        tokens={str(row): golden["candidate_vecs"][row].numpy().astype(np.int32) for row in range(count)},
    )
    with torch.no_grad():
        scores = candidate_scores(
            model.eval(), sets, np.arange(count), settings.max_seq_length, tokens.pad, torch.device("cpu")
        )
    blinks = torch.load(GOLDEN / "cross_valid_logits.pt", weights_only=True)["logits"]
    torch.testing.assert_close(scores, blinks, atol=1e-4, rtol=0)
    accuracy = (scores.argmax(1) == golden["labels"]).float().mean().item()
    assert accuracy == pytest.approx(SUMMARY["cross_valid_normalized_accuracy"])
    assert F.cross_entropy(scores, golden["labels"]) == pytest.approx(
        F.cross_entropy(blinks, golden["labels"]).item(), abs=1e-4
    )


def test_first_biencoder_loss_matches_blink(recipe: Recipe, run: Run, tokens: Tokens, tmp_path: Path) -> None:
    model, settings = new_biencoder(GOLDEN / "bert", recipe.train_biencoder)
    pairs = tokenize_pairs(converted(run, "train", tmp_path), tokens, 64, 64, tmp_path / "pairs")
    tokenizer = load_tokenizer(GOLDEN / "bert", lowercase=True)
    objective = BiencoderObjective(
        pairs, SearchSet(pairs.mentions, {}), settings, tokenizer, Accelerator(cpu=True), recipe.train_biencoder
    )
    loss = objective.loss(model.train(), np.arange(16))
    assert loss.item() == pytest.approx(SUMMARY["losses"]["biencoder"][0], abs=1e-4)
