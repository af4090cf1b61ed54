"""Code in model files of unknown origin never runs, and each file is refused with an error that says what is wrong."""

import contextlib
import io
import json
import pickle
import shutil
import struct
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from tests.support.faults import Fault
from zeshel_tasks.data.arrays import read_array
from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.download.model_files import bert_directory
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA, ConfigError, DataError, ZeshelError
from zeshel_tasks.location import model_location
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.models.biencoder import new_biencoder
from zeshel_tasks.models.blink_weights import load_blink_weights
from zeshel_tasks.models.tokenizer import load_tokenizer
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import LocalStore


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._canary,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """The file that exists if any code ran."""
    return tmp_path / "canary"


def refused(action: Callable[[], Any]) -> str:
    """Runs an action that must fail with an error of the user's input, and returns its message."""
    with pytest.raises(ZeshelError) as caught:
        action()
    assert caught.value.exit_code in (EXIT_CONFIG, EXIT_DATA)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def legacy_tar(payload: object) -> bytes:
    """Returns weights in the format of torch before 2017."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(payload)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def torch_saved(payload: object) -> bytes:
    stream = io.BytesIO()
    torch.save(payload, stream)
    return stream.getvalue()


def script() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), stream)
    return stream.getvalue()


PICKLED: dict[str, Callable[[Path], bytes]] = {
    "saved by torch": lambda canary: torch_saved({"x": Hostile(canary)}),
    "saved by torch of old": lambda canary: legacy_tar(Hostile(canary)),
    "a plain pickle": lambda canary: pickle.dumps(Hostile(canary)),
    "a plain pickle of protocol 0": lambda canary: pickle.dumps(Hostile(canary), protocol=0),
    "a numpy array of objects": lambda canary: torch_saved({"x": np.array([Hostile(canary)], dtype=object)}),
    "a whole module": lambda _: torch_saved(torch.nn.Linear(1, 1)),
}
BROKEN: dict[str, Callable[[Path], bytes]] = {
    "a TorchScript": lambda _: script(),
    "a list": lambda _: torch_saved([torch.zeros(1)]),
    "a tensor": lambda _: torch_saved(torch.zeros(1)),
    "numbers for names": lambda _: torch_saved({1: torch.zeros(1)}),
    "texts for tensors": lambda _: torch_saved({"context_encoder.bert_model.pooler.dense.bias": "x"}),
    "nothing": lambda _: b"",
    "half a file": lambda _: torch_saved({"x": torch.zeros(1000)})[:700],
    "a ZIP of nothing": lambda _: b"PK\x05\x06" + bytes(18),
    "garbage": lambda _: bytes(range(256)) * 10,
}


@pytest.mark.parametrize("kind", ["saved by torch", "a plain pickle", "a numpy array of objects"])
def test_payload_runs_when_unpickled(canary: Path, kind: str) -> None:
    """Control: the code that the tests below refuse runs elsewhere."""
    content = PICKLED[kind](canary)
    if kind == "a plain pickle":
        pickle.loads(content)
    else:
        torch.load(io.BytesIO(content), weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize("kind", {**PICKLED, **BROKEN})
def test_hostile_blink_weights_are_refused(golden: Path, tmp_path: Path, canary: Path, kind: str, fault: Fault) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes({**PICKLED, **BROKEN}[kind](canary))
    model, _ = new_biencoder(golden / "bert", build_recipe("smoke").train_biencoder)
    assert "pytorch_model.bin" in refused(lambda: load_blink_weights(model, path))
    assert not canary.exists()
    fault("weights: hostile or broken")


@pytest.fixture
def bert(golden: Path, tmp_path: Path) -> Path:
    """A model directory to which a test adds something hostile."""
    return Path(shutil.copytree(golden / "bert", tmp_path / "bert"))


@pytest.mark.parametrize("kind", {**PICKLED, **BROKEN})
def test_pickled_bert_weights_are_refused(bert: Path, canary: Path, kind: str, fault: Fault) -> None:
    (bert / "model.safetensors").unlink()
    (bert / "pytorch_model.bin").write_bytes({**PICKLED, **BROKEN}[kind](canary))
    assert "bert_model: " in refused(lambda: load_bert(bert))
    assert not canary.exists()
    fault("weights: hostile or broken")


@pytest.mark.parametrize("kind", ["module", "tokenizer"])
@pytest.mark.parametrize("model_type", ["bert", "unheard-of"])
def test_code_in_model_directory_does_not_run(
    bert: Path, canary: Path, kind: str, model_type: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No library asks the user for permission (here, the answer would be ``y``)."""
    # transformers runs code once per process and content, and the folder may have the name of an earlier test's.
    code = f"import pathlib\npathlib.Path({str(canary)!r}).touch()\nclass Model: ...  # {uuid4()}\n"
    (bert / "payload.py").write_text(code)
    config = json.loads((bert / "config.json").read_text())
    every = dict.fromkeys(("AutoConfig", "AutoModel"), "payload.Model")
    (bert / "config.json").write_text(json.dumps({**config, "model_type": model_type, "auto_map": every}))
    tokenizer = {"auto_map": {"AutoTokenizer": ["payload.Model", "payload.Model"]}, "tokenizer_class": "Model"}
    if kind == "tokenizer":
        (bert / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 10))
    for load in (lambda: load_bert(bert), lambda: load_tokenizer(bert, lowercase=True)):
        with contextlib.suppress(ConfigError):  # without its code, it is a model of a known type
            load()
    if model_type == "unheard-of":
        refused(lambda: load_bert(bert))
    assert not canary.exists()
    with contextlib.suppress(AttributeError, ValueError):  # the control is not a model
        AutoModel.from_pretrained(str(bert), trust_remote_code=True)
    assert canary.exists()
    assert sys.stdin.read() == "y\n" * 10, "somebody was asked"
    fault("weights: code in a model directory")


BROKEN_SAFETENSORS = {
    "nothing": b"",
    "garbage": bytes(range(256)) * 10,
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a header that is no JSON": struct.pack("<Q", 4) + b"nope",
    "a tensor beyond the end": (
        lambda header: struct.pack("<Q", len(header)) + header
    )(json.dumps({"x": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]}}).encode()),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN_SAFETENSORS)
def test_broken_safetensors_are_refused(bert: Path, kind: str, fault: Fault) -> None:
    (bert / "model.safetensors").write_bytes(BROKEN_SAFETENSORS[kind])
    assert "bert_model: " in refused(lambda: load_bert(bert))
    fault("weights: hostile or broken")


def test_tensors_of_wrong_shape_are_refused(bert: Path) -> None:
    weights = load_file(bert / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    save_file({**weights, name: torch.zeros(3, 3)}, bert / "model.safetensors")
    assert "bert_model: " in refused(lambda: load_bert(bert))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b"\xff\xfe"),
        ("config.json", b'{"model_type": "bert", "hidden_size": "x"}'),
        ("config.json", b'{"model_type": "bert", "num_hidden_layers": -1}'),
        ("config.json", b'{"model_type": ["bert"]}'),
    ],
)
def test_broken_model_configuration_is_refused(bert: Path, file: str, content: bytes, fault: Fault) -> None:
    (bert / file).write_bytes(content)
    assert "bert_model: " in refused(
        lambda: load_bert(bert_directory(model_location(str(bert)), bert, LocalStore(bert)))
    )
    fault("weights: hostile or broken")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b'{"version": "1.0"}'),
        ("tokenizer.json", b"[]"),
        ("tokenizer_config.json", b"{"),
        ("tokenizer_config.json", b"[]"),
        ("tokenizer_config.json", b'{"tokenizer_class": 7}'),
        ("vocab.txt", b"\xff\xfe"),
    ],
)
def test_broken_tokenizer_is_refused(bert: Path, file: str, content: bytes, fault: Fault) -> None:
    (bert / file).write_bytes(content)
    assert "bert_model: " in refused(lambda: load_tokenizer(bert, lowercase=True))
    fault("weights: hostile or broken")


@pytest.mark.parametrize("mapped", [True, False])
def test_object_array_is_refused_without_running(tmp_path: Path, canary: Path, mapped: bool, fault: Fault) -> None:
    path = tmp_path / "gold_rank.npy"
    np.save(path, np.array([Hostile(canary)], dtype=object), allow_pickle=True)
    assert "gold_rank.npy" in refused(lambda: read_array(path, mapped=mapped))
    (tmp_path / "mentions").mkdir()
    shutil.copy(path, tmp_path / "mentions" / "contexts.npy")
    with pytest.raises(DataError, match="not a readable array"):
        CandidateSets.load(tmp_path)
    assert not canary.exists()
    np.load(path, allow_pickle=True)
    assert canary.exists(), "the control: it would have run"
    fault("weights: hostile or broken")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x93NUMPY\x01\x00\xff\xff{", pickle.dumps([1])])
@pytest.mark.parametrize("mapped", [True, False])
def test_broken_array_is_refused(tmp_path: Path, content: bytes, mapped: bool, fault: Fault) -> None:
    path = tmp_path / "vectors.npy"
    path.write_bytes(content)
    assert "vectors.npy" in refused(lambda: read_array(path, mapped=mapped))
    fault("weights: hostile or broken")
