"""A retrieval model's own pooling and normalization."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from zeshel_tasks.config import PoolingSetting, SimilaritySetting
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.biencoder import new_biencoder
from zeshel_tasks.models.declared import declaration, pooling_and_similarity
from zeshel_tasks.models.markers import with_markers
from zeshel_tasks.recipe import build_recipe

_TYPES = "sentence_transformers.models."


def declare(directory: Path, *modes: str, modules: tuple[str, ...] = ("Transformer", "Pooling", "Normalize")) -> Path:
    (directory / "1_Pooling").mkdir(parents=True)
    known = ("cls_token", "mean_tokens", "max_tokens", "lasttoken")
    settings = {"word_embedding_dimension": 8, **{f"pooling_mode_{mode}": mode in modes for mode in known}}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    listed = [{"idx": number, "type": f"{_TYPES}{module}"} for number, module in enumerate(modules)]
    (directory / "modules.json").write_text(json.dumps(listed))
    return directory


@pytest.mark.parametrize(
    ("mode", "modules", "expected"),
    [
        ("cls_token", ("Transformer", "Pooling", "Normalize"), ("cls", "cosine")),  # bge
        ("mean_tokens", ("Transformer", "Pooling", "Normalize"), ("mean", "cosine")),  # e5, gte, MiniLM
        ("cls_token", ("Transformer", "Pooling"), ("cls", "dot")),
    ],
)
def test_auto_is_what_the_model_declares(
    tmp_path: Path, mode: str, modules: tuple[str, ...], expected: tuple[str, str]
) -> None:
    declare(tmp_path, mode, modules=modules)
    assert pooling_and_similarity(tmp_path, "auto", "auto") == expected


@pytest.mark.parametrize(
    ("pooling", "similarity", "expected"),
    [
        ("auto", "auto", ("mean", "cosine")),
        ("cls", "auto", ("cls", "cosine")),
        ("auto", "dot", ("mean", "dot")),
        ("span", "dot", ("span", "dot")),
    ],
)
def test_model_without_declaration(
    tmp_path: Path, pooling: PoolingSetting, similarity: SimilaritySetting, expected: tuple[str, str]
) -> None:
    assert declaration(tmp_path) is None
    assert pooling_and_similarity(tmp_path, pooling, similarity) == expected


def test_settings_take_precedence_over_declaration(tmp_path: Path) -> None:
    declare(tmp_path, "cls_token")
    assert pooling_and_similarity(tmp_path, "span_and_mean", "auto") == ("span_and_mean", "cosine")
    assert pooling_and_similarity(tmp_path, "auto", "dot") == ("cls", "dot")


@pytest.mark.parametrize("modes", [(), ("max_tokens",), ("lasttoken",), ("cls_token", "mean_tokens")])
def test_pooling_that_does_not_exist_here_needs_a_setting(tmp_path: Path, modes: tuple[str, ...]) -> None:
    declare(tmp_path, *modes)
    with pytest.raises(ConfigError, match=r"pooling: expected cls, mean, span or span_and_mean, because .*got auto"):
        pooling_and_similarity(tmp_path, "auto", "auto")
    assert pooling_and_similarity(tmp_path, "mean", "dot") == ("mean", "dot")


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json"])
@pytest.mark.parametrize("content", ["", "[", "3", None])
def test_broken_declaration_is_refused(tmp_path: Path, name: str, content: str | None) -> None:
    declare(tmp_path, "cls_token")
    path = tmp_path / name
    path.unlink() if content is None else path.write_text(content)
    if content is None and name == "modules.json":
        assert declaration(tmp_path) is None
    else:
        with pytest.raises(ConfigError, match=name):
            declaration(tmp_path)


def test_linear_layer_that_is_left_out_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    declare(tmp_path, "mean_tokens", modules=("Transformer", "Pooling", "Dense", "Normalize"))
    assert declaration(tmp_path) == ("mean", "cosine")
    assert "the linear layer that" in caplog.text


def test_new_biencoder_has_the_declared_vectors(golden: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model = shutil.copytree(golden / "bert", tmp_path / "bert")
    declare(model, "cls_token")
    config = build_recipe("recommended", {"max_context_length": 32, "max_cand_length": 32}).train_biencoder
    biencoder, settings = new_biencoder(model, config)
    assert (settings.pooling, settings.similarity) == ("cls", "cosine")
    assert biencoder.log_scale is not None
    assert "pooling cls and similarity cosine, as bert_model declares" in caplog.text


def test_copy_with_markers_keeps_the_declaration(golden: Path, tmp_path: Path) -> None:
    model = shutil.copytree(golden / "bert", tmp_path / "bert")
    vocabulary = (model / "vocab.txt").read_text().replace("[unused0]", "[nothing]")
    (model / "vocab.txt").write_text(vocabulary)
    declare(model, "cls_token")
    copied = with_markers(model, tmp_path / "copy", lowercase=True, seed=1)
    assert copied != model
    assert declaration(copied) == declaration(model) is not None
