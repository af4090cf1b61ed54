"""The whole recipe with a model that differs from BERT in tokens, case, positions, segments, markers and prompts."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.models.families import ACCEPTED
from tests.models.reference import Reference
from zeshel_tasks.commands.export import export_blink
from zeshel_tasks.commands.pipeline import run_pipeline
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.data.blink_format import read_blink_mentions
from zeshel_tasks.data.tokens import MARKERS
from zeshel_tasks.data.zeshel import Dataset
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.markers import with_markers
from zeshel_tasks.models.tokenizer import load_tokenizer, load_tokens
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Artifact, Run, open_run
from zeshel_tasks.store.artifacts import read_manifest

LENGTH, PAIR, WORLD = 32, 60, "grove"
_EMBEDDINGS = "embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def recipe(raw_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    bert = tmp_path_factory.mktemp("models") / "roberta"
    ACCEPTED["roberta"](bert)
    settings = {
        "source": str(raw_archive),
        "bert_model": str(bert),
        "lowercase": False,
        "mention_prompt": "find:",
        "candidate_prompt": "The entity:",
        "from_biencoder": True,
        "hard_negatives": 2,
        "hard_negatives_from": "both",
        "num_train_epochs": 2,
        "train_biencoder.train_batch_size": 8,
        "max_mentions_per_world": 4,
        "max_context_length": LENGTH,
        "max_cand_length": LENGTH,
        "max_seq_length": PAIR,
        "top_k": 40,
    }
    return build_recipe("smoke", settings)


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    address = f"{tmp_path_factory.mktemp('store')}/runs/roberta"
    run_pipeline(address, recipe)
    return open_run(address)


def unpadded(row: np.ndarray) -> list[int]:
    return [int(token) for token in row if token != 1]


def test_entities_have_the_tokens_and_vectors_of_transformers(golden: Path, run: Run, tmp_path: Path) -> None:
    reference = Reference(
        run.artifact("train-biencoder", tmp_path).directory("model") / "candidate_encoder",
        LENGTH,
        PAIR,
        lowercase=False,
    )
    folder = json.loads(run.artifact("eval-biencoder-test", tmp_path).path("encodings.json").read_text())[WORLD]
    manifest = read_manifest(run.store, folder)
    assert manifest is not None
    encoded = Artifact(run.store, folder, manifest, tmp_path)
    tokens, vectors = np.load(encoded.path("tokens.npy")), np.load(encoded.path("vectors.npy"))
    for row, document in zip(range(5), Dataset(golden / "raw").documents(WORLD), strict=False):
        ids = reference.entity(f"The entity: {document.title}", document.text)
        assert unpadded(tokens[row]) == ids
        np.testing.assert_allclose(vectors[row], reference.vector(ids, "cls").numpy(), atol=1e-5, rtol=1e-4)


def test_pairs_have_the_scores_of_transformers(golden: Path, run: Run, tmp_path: Path) -> None:
    encoder = run.artifact("train-crossencoder", tmp_path).directory("model") / "encoder"
    reference, tokens = Reference(encoder, LENGTH, PAIR, lowercase=False), load_tokens(encoder, lowercase=False)
    candidates = np.load(run.artifact("eval-biencoder-test", tmp_path).path("candidates.npy"))
    scores = np.load(run.artifact("eval-crossencoder-test", tmp_path).path("scores.npy"))
    convert = run.artifact("convert", tmp_path)
    convert.path("test.mentions.jsonl")
    mentions = list(read_blink_mentions(convert.path("test.jsonl")))
    row = next(row for row, mention in enumerate(mentions) if mention.world == WORLD)
    mention, linear = mentions[row], load_file(encoder / "additional_linear.safetensors")
    (context,) = tokens.mentions([(mention.context_left, mention.mention, mention.context_right)], LENGTH)
    documents = list(Dataset(golden / "raw").documents(WORLD))
    for candidate, score in zip(candidates[row], scores[row], strict=True):
        entity = reference.entity(documents[candidate].title, documents[candidate].text)
        expected = reference.pooled_pair(unpadded(context), entity) @ linear["weight"][0] + linear["bias"]
        np.testing.assert_allclose(score, expected.numpy()[0], atol=1e-5, rtol=1e-4)


def test_added_markers_are_trained(recipe: Recipe, run: Run, tmp_path: Path) -> None:
    config = recipe.train_biencoder
    start = with_markers(Path(config.bert_model), tmp_path / "start", lowercase=False, seed=config.seed)
    markers = load_tokenizer(start, lowercase=False).convert_tokens_to_ids(MARKERS)
    tower = run.artifact("train-biencoder", tmp_path).directory("model") / "context_encoder"
    before, after = (
        load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"][markers]
        for folder in (start, tower)
    )
    moved = (before - after).abs().amax(dim=1) > 1e-5  # weight decay moves all by less
    assert moved.tolist() == [True, True, False]  # a context has no marker of titles


def test_export_for_blink_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^export-blink: expected encoders of the type bert, .*, got roberta$"):
        export_blink(run.address, tmp_path / "out")
    assert not (tmp_path / "out").exists()
