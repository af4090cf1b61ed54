"""A retrieval model's own pooling, normalization and prompts."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from zeshel_tasks.config.biencoder import PoolingSetting, SimilaritySetting, TrainBiencoderConfig
from zeshel_tasks.data.tokens import Prompts
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.biencoder import load_biencoder, new_biencoder, save_biencoder
from zeshel_tasks.models.declared import declaration, declared_prompts, prompts_of, with_declared
from zeshel_tasks.models.markers import with_markers
from zeshel_tasks.models.tokenizer import load_tokenizer
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


def declare_prompts(directory: Path, prompts: Any, default: Any = None) -> Path:
    content = {"__version__": {}, "prompts": prompts, "default_prompt_name": default}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(content))
    return directory


def pooling_and_similarity(
    directory: Path, pooling: PoolingSetting, similarity: SimilaritySetting
) -> tuple[PoolingSetting, SimilaritySetting]:
    config = with_declared(TrainBiencoderConfig(pooling=pooling, similarity=similarity), directory)
    return config.pooling, config.similarity


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


@pytest.mark.parametrize(("mode", "expected"), [("cls", "cls"), ("mean", "mean"), (["mean"], "mean")])
def test_declaration_of_version_6(tmp_path: Path, mode: Any, expected: str) -> None:
    declare(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"embedding_dimension": 8, "pooling_mode": mode}))
    assert declaration(tmp_path) == (expected, "cosine")


@pytest.mark.parametrize("mode", ["lasttoken", ["cls", "mean"], [], 3])
def test_pooling_of_version_6_that_does_not_exist_here(tmp_path: Path, mode: Any) -> None:
    declare(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    with pytest.raises(ConfigError, match=r"pooling: expected cls, mean, .* got auto"):
        declaration(tmp_path)


@pytest.mark.parametrize(
    ("prompts", "default", "expected"),
    [
        ({"query": "query: ", "passage": "passage: "}, None, ("query: ", "passage: ")),
        ({"query": "search: ", "document": ""}, None, ("search: ", "")),
        ({"query": "q:", "document": "", "passage": "p:"}, None, ("q:", "p:")),  # saved again by the library
        ({"query": None, "corpus": "c:"}, None, ("", "c:")),
        ({"retrieval": "of all: "}, "retrieval", ("of all: ", "of all: ")),
        ({"query": "", "all": "of all: "}, "all", ("", "of all: ")),
        ({}, None, ("", "")),
        (None, ["query"], ("", "")),
    ],
)
def test_auto_takes_the_declared_prompts(tmp_path: Path, prompts: Any, default: Any, expected: tuple[str, str]) -> None:
    declare_prompts(tmp_path, prompts, default)
    config = with_declared(TrainBiencoderConfig(mention_prompt="auto", candidate_prompt="auto"), tmp_path)
    assert prompts_of(config) == declared_prompts(tmp_path) == expected
    assert with_declared(config, tmp_path) == config


def test_prompts_are_settings(tmp_path: Path) -> None:
    declare_prompts(tmp_path, {"query": "query: ", "passage": "passage: "})
    config = TrainBiencoderConfig(mention_prompt="find", candidate_prompt="auto")
    assert prompts_of(with_declared(config, tmp_path)) == ("find", "passage: ")
    assert prompts_of(with_declared(TrainBiencoderConfig(), tmp_path)) == ("", "")
    assert prompts_of(build_recipe("recommended", {"mention_prompt": "none"}).train_biencoder)[0] == ""


def test_model_without_prompts(tmp_path: Path) -> None:
    assert declared_prompts(tmp_path) == ("", "")


@pytest.mark.parametrize("content", ["", "[]", '{"prompts": ["query"]}', '{"prompts": {"query": 3}}', "[" * 100_000])
def test_broken_prompts_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config_sentence_transformers.json").write_text(content)
    with pytest.raises(ConfigError, match=r"bert_model: .*config_sentence_transformers.json"):
        declared_prompts(tmp_path)


@pytest.mark.parametrize(("mode", "warned"), [("mean_tokens", True), ("cls_token", False)])
def test_prompt_that_the_model_leaves_out_of_its_mean_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str, warned: bool
) -> None:
    pooling = declare(declare_prompts(tmp_path, {"query": "query: "}), mode) / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({**json.loads(pooling.read_text()), "include_prompt": False}))
    with_declared(TrainBiencoderConfig(pooling="auto", mention_prompt="auto"), tmp_path)
    assert ("leaves the prompt out of the mean" in caplog.text) == warned


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
    declare(declare_prompts(model, {"query": "the: ", "document": "sword "}), "cls_token")
    config = build_recipe("recommended", {"max_context_length": 32, "max_cand_length": 32}).train_biencoder
    biencoder, settings = new_biencoder(model, config)
    assert (settings.pooling, settings.similarity) == ("cls", "cosine")
    assert biencoder.log_scale is not None
    assert "pooling cls and similarity cosine, as bert_model declares" in caplog.text
    assert "the prompts 'the: ' and 'sword '" in caplog.text
    save_biencoder(biencoder, settings, load_tokenizer(model, lowercase=True), tmp_path)
    _, saved, tokens = load_biencoder(tmp_path)
    assert saved == settings
    assert saved.prompts == Prompts("the: ", "sword ")
    rows = [*tokens.mentions([("", "x", "")], 32), *tokens.candidates([("x", "")], 32)]
    assert [tokens.tokenizer.decode(row[:2]) for row in rows] == ["[CLS] the", "[CLS] sword"]


def test_copy_with_markers_keeps_the_declaration(golden: Path, tmp_path: Path) -> None:
    model = shutil.copytree(golden / "bert", tmp_path / "bert")
    vocabulary = (model / "vocab.txt").read_text().replace("[unused0]", "[nothing]")
    (model / "vocab.txt").write_text(vocabulary)
    declare(declare_prompts(model, {"query": "the"}), "cls_token")
    copied = with_markers(model, tmp_path / "copy", lowercase=True, seed=1)
    assert copied != model
    assert declaration(copied) == declaration(model) == ("cls", "cosine")
    assert declared_prompts(copied) == declared_prompts(model) == ("the", "")
