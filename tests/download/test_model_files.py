"""The files of a pretrained model, from each kind of location."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertModel

from zeshel_tasks.download.model_file_names import files_read, without_weights
from zeshel_tasks.download.model_files import bert_description, bert_directory, model_identity
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import model_location
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.models.tokenizer import load_tokenizer
from zeshel_tasks.store import LocalStore

Write = Callable[[str, bytes], None]
OTHER_FILES = [".git/index", "README.md", "results.json", "checkpoint-1/model.safetensors", "pytorch_model.bin"]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Write]:
    """The address of a model, and a function that writes one of its files."""
    if request.param == "local":

        def write(name: str, data: bytes) -> None:
            (tmp_path / "bert" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "bert" / name).write_bytes(data)

        address = str(tmp_path / "bert")
    else:
        bucket = request.getfixturevalue("bucket")

        def write(name: str, data: bytes) -> None:
            boto3.client("s3").put_object(Bucket=bucket, Key=f"bert/{name}", Body=data)

        address = f"s3://{bucket}/bert"
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        write(name, b"{}")
    return address, write


@pytest.mark.parametrize("name", OTHER_FILES)
def test_file_that_is_not_read_keeps_identity(place: tuple[str, Write], store: LocalStore, name: str) -> None:
    address, write = place
    before = model_identity(model_location(address), store)
    write(name, b"edited")
    assert model_identity(model_location(address), store) == before


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt", "tokenizer.json"])
def test_file_that_is_read_changes_identity(place: tuple[str, Write], store: LocalStore, name: str) -> None:
    address, write = place
    before = model_identity(model_location(address), store)
    write(name, b"edited")
    assert model_identity(model_location(address), store) != before


def test_only_files_that_are_read_are_downloaded(place: tuple[str, Write], store: LocalStore, tmp_path: Path) -> None:
    address, write = place
    write("README.md", b"")
    directory = bert_directory(model_location(address), tmp_path / "scratch", store)
    if address.startswith("s3:"):
        assert sorted(path.name for path in directory.iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]
    else:
        assert directory == Path(address)


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"], ["model.safetensors"]),
        (
            [
                "model-1-of-2.safetensors",
                "model-2-of-2.safetensors",
                "model.safetensors.index.json",
                "pytorch_model.bin",
            ],
            ["model-1-of-2.safetensors", "model-2-of-2.safetensors", "model.safetensors.index.json"],
        ),
        (["optimizer.bin", "pytorch_model.bin", "training_args.bin"], ["pytorch_model.bin"]),
        (
            ["pytorch_model-1-of-1.bin", "pytorch_model.bin.index.json", "optimizer.bin"],
            ["pytorch_model-1-of-1.bin", "pytorch_model.bin.index.json"],
        ),
        (["tf_model.h5", "other.safetensors"], []),
    ],
)
def test_weights_are_those_that_transformers_prefers(names: list[str], weights: list[str]) -> None:
    assert files_read(["README.md", *names]) == weights


def test_declarations_of_pooling_and_prompts_are_read() -> None:
    declared = ["1_Pooling/config.json", "config_sentence_transformers.json", "modules.json"]
    names = [*declared, "2_Dense/config.json", "onnx/model.safetensors"]
    assert files_read(names) == declared
    assert without_weights(names) == declared


def test_pooling_that_is_declared_is_part_of_the_identity(golden: Path, store: LocalStore, tmp_path: Path) -> None:
    model = shutil.copytree(golden / "bert", tmp_path / "bert")
    identities = {model_identity(model_location(str(model)), store)}
    for content in ("{}", "[]"):
        (model / "1_Pooling").mkdir(exist_ok=True)
        (model / "1_Pooling" / "config.json").write_text(content)
        identities.add(model_identity(model_location(str(model)), store))
    assert len(identities) == 3


def test_transformers_opens_only_files_that_are_read(golden: Path, tmp_path: Path) -> None:
    bert = tmp_path / "bert"
    shutil.copytree(golden / "bert", bert)
    for name in OTHER_FILES:
        (bert / name).parent.mkdir(exist_ok=True)
        (bert / name).write_bytes(b"{}")
    opened: list[str] = []
    is_watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if is_watching and event == "open" and isinstance(arguments[0], str | Path):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    load_tokenizer(bert, lowercase=True)
    load_bert(bert)
    is_watching = False
    names = {Path(path).relative_to(bert).as_posix() for path in opened if path.startswith(f"{bert}/")}
    assert "config.json" in names
    assert names <= set(files_read(path.relative_to(bert).as_posix() for path in bert.rglob("*")))


def test_sharded_model_loads_from_files_that_are_read(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
    weights = BertModel(config).state_dict()
    bert = tmp_path / "bert"
    config.save_pretrained(bert)
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, tensors in shards.items():
        save_file({name: weights[name] for name in tensors}, bert / shard, metadata={"format": "pt"})
    weight_map = {name: shard for shard, tensors in shards.items() for name in tensors}
    (bert / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (tmp_path / "read").mkdir()
    for name in files_read(path.name for path in bert.iterdir()):
        shutil.copy(bert / name, tmp_path / "read" / name)
    loaded = AutoModel.from_pretrained(tmp_path / "read").state_dict()
    assert all(torch.equal(loaded[name], weights[name]) for name in names)


def test_description_is_got_without_weights(place: tuple[str, Write], store: LocalStore, tmp_path: Path) -> None:
    address, _ = place
    directory = bert_description(model_location(address), tmp_path / "scratch", store)
    if address.startswith("s3:"):
        assert sorted(path.name for path in directory.iterdir()) == ["config.json", "vocab.txt"]
    else:
        assert directory == Path(address)


@pytest.mark.parametrize("get", [bert_directory, bert_description])
def test_adapter_is_refused(
    place: tuple[str, Write], store: LocalStore, tmp_path: Path, get: Callable[..., Path]
) -> None:
    """With the package peft, transformers would read the base model that the adapter names, else ignore the adapter."""
    address, write = place
    write("checkpoint-1/adapter_config.json", b"{}")
    assert get(model_location(address), tmp_path / "one", store)
    write("adapter_config.json", b"{}")
    with pytest.raises(
        ConfigError, match=r"bert'?: expected a model whose adapter is merged into its weights, got ada"
    ):
        get(model_location(address), tmp_path / "two", store)


def test_adapter_alone_is_refused(tmp_path: Path, store: LocalStore) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors", "vocab.txt"):
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ConfigError, match="expected a model whose adapter is merged into its weights"):
        bert_directory(model_location(str(tmp_path)), tmp_path / "scratch", store)


DUPLICATES = {
    "the prefix of a whole model": ("encoder.layer.0.output.dense.weight", "bert.encoder.layer.0.output.dense.weight"),
    "the name of TensorFlow": ("embeddings.LayerNorm.weight", "embeddings.LayerNorm.gamma"),
    "both": ("embeddings.LayerNorm.bias", "bert.embeddings.LayerNorm.beta"),
}


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("kind", DUPLICATES)
def test_weight_under_two_names_is_refused(golden: Path, tmp_path: Path, kind: str, pickled: bool) -> None:
    name, other = DUPLICATES[kind]
    bert = tmp_path / "bert"
    shutil.copytree(golden / "bert", bert)
    tensors = load_file(bert / "model.safetensors")
    tensors[other] = tensors[name] + 1
    if pickled:
        (bert / "model.safetensors").unlink()
        torch.save(tensors, bert / "pytorch_model.bin")
    else:
        save_file(tensors, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"bert_model: expected each weight once in .*, got ") as refused:
        load_bert(bert)
    assert name in str(refused.value)
    assert other in str(refused.value)


def test_weight_in_two_shards_is_refused(golden: Path, tmp_path: Path) -> None:
    bert = tmp_path / "bert"
    shutil.copytree(golden / "bert", bert)
    tensors = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    name = "embeddings.LayerNorm.bias"
    save_file(tensors, bert / "1.safetensors", metadata={"format": "pt"})
    save_file({name: tensors[name] + 1}, bert / "2.safetensors", metadata={"format": "pt"})
    save_file({name: tensors[name] + 2}, bert / "unused.safetensors", metadata={"format": "pt"})
    weight_map = dict.fromkeys(tensors, "1.safetensors")
    index = bert / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert load_bert(bert)
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map | {name: "2.safetensors"}}))
    with pytest.raises(ConfigError, match=f"expected each weight once in .*, got {name} and {name} in 2.safetensors"):
        load_bert(bert)


def test_directory_without_a_model_is_a_config_error(tmp_path: Path, store: LocalStore) -> None:
    (tmp_path / "empty").mkdir()
    for address in (str(tmp_path / "empty"), "not a/valid/hub name"):
        with pytest.raises(ConfigError, match=r"expected a directory with config\.json"):
            bert_directory(model_location(address), tmp_path, store)
