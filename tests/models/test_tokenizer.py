"""Tokenizers that would fail, or be wrong, at a later text are refused when they are loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.models.families import ACCEPTED
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.tokenizer import load_tokenizer


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A model whose tokenizer is only ``tokenizer.json``, and its special tokens."""
    ACCEPTED["bert with spare embeddings"](tmp_path / "bert")
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (tmp_path / "bert" / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path / "bert"


def change(directory: Path, **values: Any) -> None:
    path = directory / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def read(directory: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((directory / "tokenizer.json").read_text())
    return values


def refused(directory: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_tokenizer(directory, lowercase=True)
    return str(error.value)


def test_tokenizer_in_one_file_is_read(bert: Path) -> None:
    assert load_tokenizer(bert, lowercase=True).tokenize("the sword ☃") == ["the", "sword", "[UNK]"]


def test_vocabulary_without_a_token_for_unknown_words_is_refused(bert: Path) -> None:
    values = read(bert)
    values["model"]["vocab"]["[OTHER]"] = values["model"]["vocab"].pop("[UNK]")
    added = [token for token in values["added_tokens"] if token["content"] != "[UNK]"]
    change(bert, model=values["model"], added_tokens=added)
    assert refused(bert).endswith("got: Exception: WordPiece error: Missing [UNK] token from the vocabulary")


def test_panic_of_tokenizers_is_refused(bert: Path) -> None:
    change(bert, normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})
    assert f"expected a tokenizer in {bert}, got: PanicException: Precompiled: " in refused(bert)


@pytest.mark.parametrize("lost", ["\u200c", "\x07", "\u3000"])
def test_added_token_that_normalization_removes_is_refused(bert: Path, lost: str) -> None:
    """Beside other added tokens, it is found everywhere: ``the sword`` becomes single letters, and ``£`` a panic."""
    values = read(bert)
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    normalizer = {"type": "Sequence", "normalizers": [values["normalizer"], strip]}
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    new = [{**token, "id": 157 + number, "content": content} for number, content in enumerate([lost, "eg", "deb"])]
    change(bert, normalizer=normalizer, added_tokens=[*values["added_tokens"], *new])
    assert f"finds in text, got {lost!a}, of which it leaves nothing" in refused(bert)
    new[0]["normalized"] = False
    change(bert, added_tokens=[*values["added_tokens"], *new])
    assert load_tokenizer(bert, lowercase=True).tokenize("the sword £") == ["the", "sword", "[UNK]"]
