"""Broken, incomplete or unsuitable pretrained models and start weights, given to a training."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.bad_input.command import Ended, assert_refused, run
from tests.support.faults import Fault
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA
from zeshel_tasks.store import Run

Capture = pytest.CaptureFixture[str]
Break = Callable[[Path], None]

WEIGHTS, CONFIG, VOCABULARY = "model.safetensors", "config.json", "vocab.txt"
SHORT = ["--preset", "smoke", "--max_context_length", "32", "--max_cand_length", "32", "--num_train_epochs", "0"]


def file(name: str, content: bytes) -> Break:
    def change(model: Path) -> None:
        (model / name).write_bytes(content)

    return change


def shape(**changed: Any) -> Break:
    """Changes fields of the model's configuration; ``...`` removes a field."""

    def change(model: Path) -> None:
        values = json.loads((model / CONFIG).read_text()) | changed
        (model / CONFIG).write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Break:
    def rewrite(model: Path) -> None:
        tensors = load_file(model / WEIGHTS)
        change(tensors)
        save_file(tensors, model / WEIGHTS, {"format": "pt"})

    return rewrite


def vocabulary(change: Callable[[list[str]], list[str]]) -> Break:
    def rewrite(model: Path) -> None:
        tokens = (model / VOCABULARY).read_text().splitlines()
        (model / VOCABULARY).write_text("".join(f"{token}\n" for token in change(tokens)))

    return rewrite


def without(name: str) -> Break:
    return lambda model: (model / name).unlink()


def cut(name: str, size: int) -> Break:
    return lambda model: file(name, (model / name).read_bytes()[:size])(model)


def pickled(content: bytes) -> Break:
    """Returns weights in a pickle, the format of models before safetensors."""

    def change(model: Path) -> None:
        (model / WEIGHTS).unlink()
        (model / "pytorch_model.bin").write_bytes(content)

    return change


def few_positions(model: Path) -> None:
    shape(max_position_embeddings=16)(model)
    weights(lambda t: t.update({name: w[:16].clone() for name, w in t.items() if "position" in name}))(model)


class Owned:
    """A pickle that runs a command when it is loaded without restrictions."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("owned"),))


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


MODELS: dict[str, tuple[Break, str]] = {
    "no configuration": (without(CONFIG), "expected a directory with config.json"),
    "an empty configuration": (file(CONFIG, b""), "config.json: expected a JSON object"),
    "a configuration that is cut off": (cut(CONFIG, 50), "config.json: expected a JSON object"),
    "a configuration of zeros": (file(CONFIG, bytes(100)), "config.json: expected a JSON object"),
    "a configuration that is a list": (file(CONFIG, b"[1]"), "config.json: all of it: "),
    "a deep configuration": (file(CONFIG, b"[" * 100_000), "config.json: expected a JSON object"),
    "no model type": (shape(model_type=...), "config.json: model_type: Field required"),
    "a model type that is a list": (shape(model_type=["bert"]), "config.json: model_type: "),
    "an unknown model type": (shape(model_type="\x1b[2Jbert"), "model_type: expected one of bert, camembert, "),
    "a model of another family": (shape(model_type="gpt2"), "model_type: expected one of bert, camembert, "),
    "a model of a related family": (shape(model_type="mobilebert"), "model_type: expected one of bert, camembert, "),
    "a decoder": (shape(is_decoder=True), "config.json: is_decoder: Input should be False; got True"),
    "relative positions": (shape(position_embedding_type="relative_key"), "position_embedding_type: Input should be "),
    "no layers": (shape(num_hidden_layers=0), "num_hidden_layers: Input should be greater than or equal to 1"),
    "negative layers": (shape(num_hidden_layers=-1), "num_hidden_layers: Input should be greater than or equal to 1"),
    "layers in words": (shape(num_hidden_layers="two"), "num_hidden_layers: Input should be a valid integer"),
    "fewer layers than the weights": (shape(num_hidden_layers=1), "with layers that config.json leaves out"),
    "more layers than the weights": (shape(num_hidden_layers=3), "without encoder.layer.2"),
    "no heads": (shape(num_attention_heads=0), "num_attention_heads"),
    "heads that do not fit": (shape(num_attention_heads=7), "not a multiple of the number of attention heads"),
    "an unknown activation": (shape(hidden_act="\n"), "expected a BERT model"),
    "a size of exabytes": (shape(hidden_size=10**15), "hidden_size: Input should be less than"),
    "another size than the weights": (shape(hidden_size=128), "of [128], as"),
    "a smaller vocabulary than the tokenizer": (shape(vocab_size=100), "vocabulary of at most 100 tokens"),
    "too few positions": (few_positions, "max_context_length: expected at most 16, the positions that bert_model has"),
    "no weights": (without(WEIGHTS), "expected a BERT model"),
    "empty weights": (file(WEIGHTS, b""), "expected a BERT model"),
    "weights of zeros": (file(WEIGHTS, bytes(1000)), "expected a BERT model"),
    "weights that are cut off": (cut(WEIGHTS, 100_000), "expected a BERT model"),
    "a header of exabytes": (file(WEIGHTS, b"\xff" * 100), "expected a BERT model"),
    "weights with a web page in them": (file(WEIGHTS, b"<!DOCTYPE html>" * 99), "expected a BERT model"),
    "a tensor that is missing": (
        weights(lambda t: t.pop("embeddings.word_embeddings.weight")), "without embeddings.word_embeddings.weight"),
    "no tensors at all": (weights(lambda t: t.clear()), "without embeddings."),
    "a weight that is not a number": (
        weights(lambda t: t["embeddings.LayerNorm.bias"].fill_(float("nan"))),
        "finite numbers, got others in embeddings.LayerNorm.bias"),
    "a pickle of text": (pickled(b"hello"), "expected a BERT model"),
    "an empty pickle": (pickled(b""), "expected a BERT model"),
    "a pickle that runs a command": (pickled(pickle.dumps({"a": Owned()})), "expected a BERT model"),
    "a whole module": (pickled(saved(torch.nn.Linear(1, 1))), "contains torch.nn.modules.linear.Linear, and not only"),
    "no vocabulary": (without(VOCABULARY), "bert_model: expected a vocabulary in"),
    "an empty vocabulary": (file(VOCABULARY, b""), "bert_model: expected a vocabulary in"),
    "a vocabulary that is not UTF-8": (file(VOCABULARY, b"\xff\xfe"), "expected a tokenizer"),
    "a vocabulary with a token twice and without markers": (
        vocabulary(lambda tokens: [t if t[:7] != "[unused" else "the" for t in tokens]), "a vocabulary without gaps"),
    "a vocabulary without [SEP]": (
        vocabulary(lambda tokens: [t for t in tokens if t != "[SEP]"]), "expected [SEP] in the vocabulary"),
    "a longer vocabulary than the model": (vocabulary(lambda tokens: [*tokens, "more"]), "at most 3000 tokens"),
    "a tokenizer that is no JSON": (file("tokenizer.json", b"{"), "expected a tokenizer"),
    "a tokenizer of nothing": (file("tokenizer.json", b"{}"), "expected a tokenizer"),
    "a tokenizer's settings that are a list": (file("tokenizer_config.json", b"[]"), "expected a tokenizer"),
    "a tokenizer's class that is a number": (
        file("tokenizer_config.json", b'{"tokenizer_class": 5}'), "expected a tokenizer"),
    "special tokens that are a list": (file("special_tokens_map.json", b"[]"), "expected a tokenizer"),
}  # fmt: skip
# Refused after the model is loaded and before anything is committed: the embeddings are the output, and not trained.
NOTHING_TO_TRAIN = ("--pull_from_layer", "0", "--type_optimization", "all_encoder_layers")


def train(stage: str, run_: Run, capsys: Capture, *flags: object) -> Ended:
    return run([f"train-{stage}", "--run", run_.address, *SHORT, *map(str, flags)], capsys)


@pytest.fixture
def model(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(golden / "bert", tmp_path / "bert")


@pytest.mark.parametrize("name", MODELS)
def test_broken_model_is_refused_in_one_line(
    finished_run: Run, model: Path, capsys: Capture, fault: Fault, name: str
) -> None:
    fault("input: broken model")
    change, words = MODELS[name]
    change(model)
    ended = train("biencoder", finished_run, capsys, "--bert_model", model)
    assert_refused(ended, EXIT_CONFIG, words)
    assert not Path("owned").exists()


def test_model_too_short_for_crossencoder_is_refused_before_training(
    finished_run: Run, model: Path, capsys: Capture, fault: Fault
) -> None:
    """The recipe of the whole run decides, since the cross-encoder starts hours later."""
    fault("input: broken model")
    shape(max_position_embeddings=48)(model)
    weights(lambda t: t.update({name: w[:48].clone() for name, w in t.items() if "position" in name}))(model)
    flags = ["--bert_model", model, "--train_crossencoder.bert_model", model]
    words = "train_crossencoder.max_seq_length: expected at most 48, the positions that bert_model has, got 127"
    assert_refused(train("biencoder", finished_run, capsys, *flags), EXIT_CONFIG, words)
    shorter = [f"--train_crossencoder.{name}" for name in ("max_context_length=24", "max_cand_length=24")]
    layer = "--train_crossencoder.pull_from_layer=5"
    ended = train("biencoder", finished_run, capsys, *flags, *shorter, layer)
    assert_refused(ended, EXIT_CONFIG, "train_crossencoder.pull_from_layer: expected -3 to 2 for a model of 2 layers")
    ended = train("biencoder", finished_run, capsys, *flags, *shorter, "--pull_from_layer=5")
    assert_refused(ended, EXIT_CONFIG, "pull_from_layer: expected -3 to 2")
    ended = train("crossencoder", finished_run, capsys, "--bert_model", model, "--max_cand_length", "48")
    assert_refused(ended, EXIT_CONFIG, "max_seq_length: expected at most 48, the positions that bert_model has, got 79")


def test_other_start_of_crossencoder_is_checked_before_training(
    finished_run: Run, model: Path, golden: Path, tmp_path: Path, capsys: Capture, fault: Fault
) -> None:
    fault("input: broken model")
    bert = ["--bert_model", golden / "bert"]
    shape(model_type="mpnet")(model)
    ended = train("biencoder", finished_run, capsys, *bert, "--train_crossencoder.bert_model", model)
    assert_refused(
        ended, EXIT_CONFIG, "train_crossencoder.bert_model: ", "model_type: expected one of bert, ", "'mpnet'"
    )
    missing = tmp_path / "missing"
    ended = train("biencoder", finished_run, capsys, *bert, "--train_crossencoder.bert_model", missing)
    assert_refused(
        ended, EXIT_CONFIG, "train_crossencoder.bert_model: expected a directory with config.json", "missing"
    )
    ended = train("biencoder", finished_run, capsys, *bert, "--train_crossencoder.crossencoder_weights", missing)
    assert_refused(ended, EXIT_DATA, "missing: no file at this address")
    folder = golden / "cross"  # of the weights, which are in a file
    ended = train("biencoder", finished_run, capsys, *bert, "--train_crossencoder.crossencoder_weights", folder)
    assert_refused(ended, EXIT_DATA, "cross: no file at this address")


def test_other_start_of_crossencoder_in_a_bucket_is_checked_before_training(
    finished_run: Run, model: Path, golden: Path, bucket: str, capsys: Capture
) -> None:
    shape(model_type="mpnet")(model)
    for path in model.iterdir():
        boto3.client("s3").upload_file(str(path), bucket, f"models/other/{path.name}")
    flags = ["--bert_model", golden / "bert", "--train_crossencoder.bert_model", f"s3://{bucket}/models/other"]
    ended = train("biencoder", finished_run, capsys, *flags)
    assert_refused(ended, EXIT_CONFIG, "train_crossencoder.bert_model: ", "model_type: expected one of bert, ")


def test_lost_case_is_logged(finished_run: Run, model: Path, capsys: Capture, fault: Fault) -> None:
    fault("input: strange model")
    warning = "bert_model has a cased vocabulary"
    vocabulary(lambda tokens: [*tokens[:-1], "Sword"])(model)
    flags = ["--bert_model", model, *NOTHING_TO_TRAIN]
    assert [line for line in train("biencoder", finished_run, capsys, *flags).lines if warning in line]
    ended = train("biencoder", finished_run, capsys, *flags, "--lowercase", "false")
    assert_refused(ended, EXIT_CONFIG, "type_optimization: expected ")
    assert not [line for line in ended.lines if warning in line]


def test_missing_pooling_layer_is_initialized_and_logged(
    finished_run: Run, model: Path, capsys: Capture, fault: Fault
) -> None:
    fault("input: strange model")
    weights(lambda t: [t.pop(name) for name in list(t) if name.startswith("pooler.")])(model)
    ended = train("biencoder", finished_run, capsys, "--bert_model", model, *NOTHING_TO_TRAIN)
    assert_refused(ended, EXIT_CONFIG, "type_optimization: expected ")
    assert [line for line in ended.lines if line.endswith("has no pooling layer; it is initialized randomly")]


WEIGHT_FILES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a readable weight file"),
    "text": (b"hello", "not a readable weight file"),
    "a web page": (b"<!DOCTYPE html>" * 50, "not a readable weight file"),
    "zeros": (bytes(1000), "not a readable weight file"),
    "a zip file that is cut off": (saved({"a": torch.zeros(99)})[:500], "not a readable weight file"),
    "a pickle that runs a command": (saved({"a": Owned()}), "not a readable weight file"),
    "a whole module": (saved(torch.nn.Linear(1, 1)), "contains torch.nn.modules.linear.Linear, and not only tensors"),
    "an old pickle that runs a command": (pickle.dumps(Owned()), "not a readable weight file"),
    "a list": (saved([torch.zeros(1)]), "not a weight file"),
    "numbers for names": (saved({1: torch.zeros(1)}), "not a weight file"),
    "no tensors": (saved({"context_encoder.x": "y"}), "not a weight file"),
    "nothing in it": (saved({}), "weights of another architecture"),
    "another model's": (saved({"a\nERROR: b": torch.zeros(1)}), "weights of another architecture"),
}


@pytest.mark.parametrize("name", WEIGHT_FILES)
@pytest.mark.parametrize("stage", ["biencoder", "crossencoder"])
def test_broken_start_weights_are_refused_in_one_line(
    finished_run: Run, model: Path, tmp_path: Path, capsys: Capture, fault: Fault, stage: str, name: str
) -> None:
    fault("input: broken start weights")
    content, words = WEIGHT_FILES[name]
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    ended = train(
        stage, finished_run, capsys, "--bert_model", model, f"--{stage}_weights", tmp_path / "pytorch_model.bin"
    )
    assert_refused(ended, EXIT_DATA, words, "pytorch_model.bin")
    assert not Path("owned").exists()


@pytest.mark.parametrize("where", ["nowhere.bin", "nowhere/model.bin", "empty"])
def test_missing_start_weights_are_named(
    finished_run: Run, model: Path, tmp_path: Path, capsys: Capture, fault: Fault, where: str
) -> None:
    fault("input: broken start weights")
    (tmp_path / "empty").mkdir()
    ended = train("biencoder", finished_run, capsys, "--bert_model", model, "--biencoder_weights", tmp_path / where)
    assert_refused(ended, EXIT_DATA, where)


def test_non_finite_start_weights_are_named(
    finished_run: Run, golden: Path, model: Path, tmp_path: Path, capsys: Capture, fault: Fault
) -> None:
    fault("input: broken start weights")
    tensors = torch.load(golden / "bi" / "pytorch_model.bin", weights_only=True)
    name = next(name for name in tensors if name.endswith("LayerNorm.bias"))
    tensors[name][0] = float("inf")
    (tmp_path / "weights.bin").write_bytes(saved(tensors))
    ended = train(
        "biencoder", finished_run, capsys, "--bert_model", model, "--biencoder_weights", tmp_path / "weights.bin"
    )
    assert_refused(ended, EXIT_DATA, "weights that are not finite numbers", name)
