"""sentence-transformers computes our vectors and scores from the exported folders, for all kinds of models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.families import ACCEPTED
from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.config.crossencoder import TrainCrossencoderConfig
from zeshel_tasks.data.tokens import MENTION_END, MENTION_START, TITLE_END, Tokens
from zeshel_tasks.export.folders import (
    CANDIDATE_ENCODER,
    CROSS_ENCODER,
    MENTION_ENCODER,
    write_biencoder,
    write_crossencoder,
)
from zeshel_tasks.models.batches import token_batch
from zeshel_tasks.models.biencoder import load_biencoder, new_biencoder, save_biencoder
from zeshel_tasks.models.crossencoder import load_crossencoder, new_crossencoder, pair_batch, save_crossencoder
from zeshel_tasks.models.declared import declaration, declared_prompts
from zeshel_tasks.models.markers import with_markers
from zeshel_tasks.models.tokenizer import load_tokens

MENTIONS = [
    ("the sword of Dawn " * 9, "the Sword", " of dawn the sword" * 9),
    ("", "Dawn", ""),
    ("short", "[SEP] sword </s>", "of [unused2] the\n\tdawn"),
    ("one side " * 20, "é 京 東", ""),
    ("left", "the sword of the dawn " * 20, "right"),
    ("a", "", "b"),
]
CANDIDATES = [
    ("Sword of Dawn", "the sword of [CLS] dawn " * 9),
    ("dawn", "the"),
    ("</s> [PAD]", "a <mask> [MASK] [unused0] x"),
    ("", "only a\ttext "),
    ("A title that is longer than what a candidate may have of tokens and more", "unseen"),
    ("é 京", "東"),
]
CPU = torch.device("cpu")


class Case(NamedTuple):
    """An architecture; all of them together have each kind of tokenizer, pooling, similarity and head."""

    family: str
    biencoder: dict[str, Any]
    crossencoder: dict[str, Any]


CASES = {
    "bert": Case("bert", {"pooling": "cls", "similarity": "dot"}, {}),
    "cased": Case(
        "cased bert",
        {"pooling": "span", "similarity": "cosine", "lowercase": False, "pull_from_layer": -2},
        {"lowercase": False, "pull_from_layer": 1},
    ),
    "one segment": Case(
        "bert with one segment",
        {"pooling": "mean", "similarity": "cosine", "mention_prompt": "the sword:", "candidate_prompt": "of:"},
        {"max_seq_length": 40},
    ),
    "embeddings only": Case(
        "ernie", {"pooling": "cls", "similarity": "dot", "pull_from_layer": 0, "add_linear": True, "out_dim": 5}, {}
    ),
    "bytes": Case("roberta with two segments", {"pooling": "span_and_mean", "similarity": "dot"}, {}),
    "pieces": Case(
        "camembert",
        {"pooling": "mean", "similarity": "dot", "mention_prompt": "query: ", "candidate_prompt": "The passage"},
        {"lowercase": False},
    ),
    "codes": Case("roberta with a tokenizer in Python", {"pooling": "cls", "similarity": "cosine"}, {}),
}


class Exported(NamedTuple):
    """Saved models and what was exported of them."""

    biencoder: Path
    crossencoder: Path
    out: Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Builds, saves and exports the models of a case, once."""
    done: dict[str, Exported] = {}

    def export(name: str) -> Exported:
        if name not in done:
            done[name] = _export(CASES[name], tmp_path_factory.mktemp("case"))
        return done[name]

    return export


def _export(case: Case, folder: Path) -> Exported:
    lengths = {"max_context_length": 32, "max_cand_length": 24}
    ACCEPTED[case.family](folder / "plain")
    for options, name in ((case.biencoder, "biencoder"), (case.crossencoder, "crossencoder")):
        lowercase = options.get("lowercase", True)
        bert = folder / f"marked-{lowercase}"
        if not bert.exists():
            bert = with_markers(folder / "plain", bert, lowercase=lowercase, seed=3)
        tokens = load_tokens(bert, lowercase=lowercase)
        (folder / name).mkdir()
        torch.manual_seed(4)
        if name == "biencoder":
            bi, bi_settings = new_biencoder(bert, TrainBiencoderConfig(**lengths, **options))
            with torch.no_grad():  # both towers differ
                for parameter in bi.cand_encoder.parameters():
                    parameter.mul_(1.1)
            save_biencoder(bi, bi_settings, tokens.tokenizer, folder / name)
        else:
            config = TrainCrossencoderConfig(**lengths, **{"max_seq_length": 55, "add_linear": True, **options})
            cross, cross_settings = new_crossencoder(bert, config)
            save_crossencoder(cross, cross_settings, tokens.tokenizer, folder / name)
    (folder / "out").mkdir()
    write_biencoder(folder / "biencoder", folder / "out")
    write_crossencoder(folder / "crossencoder", folder / "out")
    return Exported(folder / "biencoder", folder / "crossencoder", folder / "out")


def mention_texts() -> list[str]:
    return [f"{left} {MENTION_START} {mention} {MENTION_END} {right}" for left, mention, right in MENTIONS]


def candidate_texts() -> list[str]:
    return [f"{title} {TITLE_END} {text}" for title, text in CANDIDATES]


def loaded(library: Any, folder: Path) -> Any:
    kind = library.CrossEncoder if folder.name == CROSS_ENCODER else library.SentenceTransformer
    return kind(str(folder), trust_remote_code=(folder / "mention_modules.py").exists(), device="cpu")


@pytest.mark.parametrize("case", CASES)
def test_vectors_of_mentions_are_ours(library: Any, exported: Callable[[str], Exported], case: str) -> None:
    files = exported(case)
    model, known, tokens = load_biencoder(files.biencoder)
    assert known.mention_prompt == CASES[case].biencoder.get("mention_prompt", "")
    rows = tokens.mentions(MENTIONS, known.max_context_length)
    with torch.no_grad():
        ours = model.eval().context_encoder(token_batch(rows, tokens.pad, CPU)).numpy()
    theirs = loaded(library, files.out / MENTION_ENCODER)
    np.testing.assert_allclose(theirs.encode(mention_texts()), ours, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(theirs.encode_query(mention_texts()), theirs.encode(mention_texts()))
    assert theirs.similarity_fn_name == known.similarity
    assert theirs.get_embedding_dimension() == ours.shape[1]


@pytest.mark.parametrize("case", CASES)
def test_vectors_of_candidates_are_ours(library: Any, exported: Callable[[str], Exported], case: str) -> None:
    files = exported(case)
    model, known, tokens = load_biencoder(files.biencoder)
    rows = tokens.candidates(CANDIDATES, known.max_cand_length)
    with torch.no_grad():
        ours = model.eval().cand_encoder(token_batch(rows, tokens.pad, CPU)).numpy()
    theirs = loaded(library, files.out / CANDIDATE_ENCODER)
    np.testing.assert_allclose(theirs.encode(candidate_texts()), ours, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(theirs.encode_document(candidate_texts()), theirs.encode(candidate_texts()))
    assert theirs.similarity_fn_name == known.similarity


@pytest.mark.parametrize("case", CASES)
def test_scores_of_pairs_are_ours(library: Any, exported: Callable[[str], Exported], case: str) -> None:
    files = exported(case)
    model, known, tokens = load_crossencoder(files.crossencoder)
    contexts = tokens.mentions(MENTIONS, known.max_context_length)
    candidates = tokens.candidates(CANDIDATES, known.max_cand_length)
    with torch.no_grad():
        ours = model.eval()(pair_batch(contexts, candidates, known.max_seq_length, tokens.pad, CPU)).numpy()
    theirs = loaded(library, files.out / CROSS_ENCODER)
    scores = theirs.predict(list(zip(mention_texts(), candidate_texts(), strict=True)))
    np.testing.assert_allclose(scores, ours, atol=1e-5, rtol=1e-5)
    assert len(set(np.round(scores, 3))) > 3
    best = theirs.rank(mention_texts()[0], candidate_texts())[0]
    assert best["score"] == max(row["score"] for row in theirs.rank(mention_texts()[0], candidate_texts()))


@settings(max_examples=200)
@given(
    st.lists(
        st.text(st.sampled_from("aswordofthe DAWN[]<>./s\t\n\u00a0\u2028éΣİ東"), max_size=60), min_size=5, max_size=5
    )
)
@pytest.mark.parametrize("case", ["cased", "bytes", "pieces"])
def test_tokens_of_any_text_are_ours(
    library: Any, exported: Callable[[str], Exported], case: str, texts: list[str]
) -> None:
    assert_same_tokens(library, exported(case), texts)


_READERS: dict[Path, tuple[Any, Tokens, Any]] = {}


def assert_same_tokens(library: Any, files: Exported, texts: list[str]) -> None:
    if files.out not in _READERS:
        _, known, tokens = load_crossencoder(files.crossencoder)
        _READERS[files.out] = loaded(library, files.out / CROSS_ENCODER)[0], tokens, known
    reader, tokens, known = _READERS[files.out]
    left, mention, right, title, text = texts
    row = tokens.mentions([(left, mention, right)], known.max_context_length)[0]
    assert reader.mention(f"{left}{MENTION_START}{mention}{MENTION_END}{right}") == row[row != tokens.pad].tolist()
    row = tokens.candidates([(title, text)], known.max_cand_length)[0]
    assert reader.candidate(f"{title}{TITLE_END}{text}") == row[row != tokens.pad].tolist()


def test_mention_without_markers_is_refused(library: Any, exported: Callable[[str], Exported]) -> None:
    model = loaded(library, exported("bert").out / MENTION_ENCODER)
    with pytest.raises(ValueError, match=r"expected 'left \[unused0\] mention \[unused1\] right', got 'no mention'"):
        model.encode(["no mention"])


def test_candidate_encoder_with_berts_tokenizer_runs_no_code_of_its_folder(exported: Callable[[str], Exported]) -> None:
    for name in ("bert", "cased"):
        folder = exported(name).out / CANDIDATE_ENCODER
        types = [module["type"] for module in json.loads((folder / "modules.json").read_text())]
        assert all(type_.startswith("sentence_transformers.") for type_ in types)
        assert not list(folder.glob("*.py"))


def test_code_of_the_folders_imports_nothing_of_ours(exported: Callable[[str], Exported]) -> None:
    for path in exported("bert").out.rglob("*.py"):
        assert "zeshel_tasks" not in path.read_text()


def test_layers_that_are_not_used_are_left_out(exported: Callable[[str], Exported]) -> None:
    out = exported("cased").out
    layers = {path.parent.name: json.loads(path.read_text())["num_hidden_layers"] for path in out.glob("*/config.json")}
    assert layers == {CANDIDATE_ENCODER: 1, MENTION_ENCODER: 1, CROSS_ENCODER: 1}


def test_exported_candidate_encoder_declares_its_vectors_to_a_training(exported: Callable[[str], Exported]) -> None:
    assert declaration(exported("bert").out / CANDIDATE_ENCODER) == ("cls", "dot")
    assert declaration(exported("one segment").out / CANDIDATE_ENCODER) == ("mean", "cosine")
    for name in (CANDIDATE_ENCODER, MENTION_ENCODER):
        assert declared_prompts(exported("one segment").out / name) == ("the sword: ", "of: ")


def test_folders_can_be_saved_again(library: Any, exported: Callable[[str], Exported], tmp_path: Path) -> None:
    """As after a training with sentence-transformers."""
    for name, texts in ((MENTION_ENCODER, mention_texts()), (CANDIDATE_ENCODER, candidate_texts())):
        first = loaded(library, exported("cased").out / name)
        first.save(str(tmp_path / name), create_model_card=False)
        np.testing.assert_array_equal(loaded(library, tmp_path / name).encode(texts), first.encode(texts))
