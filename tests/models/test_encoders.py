from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModel, AutoTokenizer

from zeshel_tasks.config.biencoder import Pooling
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.models.batches import token_batch
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.models.biencoder import load_biencoder, new_biencoder, save_biencoder
from zeshel_tasks.models.blink_weights import load_blink_weights, save_blink_weights
from zeshel_tasks.models.crossencoder import load_crossencoder, new_crossencoder, pair_batch, save_crossencoder
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.models.tokenizer import load_tokenizer
from zeshel_tasks.recipe import build_recipe

CPU = torch.device("cpu")
TABLE = np.array([[5, 20, 30, 6], [5, 40, 6, 0]], dtype=np.int32)
IDS = torch.from_numpy(TABLE).long()
BATCH = token_batch(TABLE, 0, CPU)


@pytest.mark.parametrize("settings", [{}, {"add_linear": True, "out_dim": 7}, {"pull_from_layer": 1}])
def test_saved_biencoder_opens_with_transformers_and_encodes_identically(
    golden: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    config = build_recipe("smoke", {f"train_biencoder.{k}": v for k, v in settings.items()}).train_biencoder
    model, known = new_biencoder(golden / "bert", config)
    save_biencoder(model, known, load_tokenizer(golden / "bert", lowercase=True), tmp_path)
    again, known_again, _ = load_biencoder(tmp_path)
    with torch.no_grad():
        before, after = (m.eval()(BATCH, BATCH) for m in (model, again))
    assert known_again == known
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    for tower in ("context_encoder", "candidate_encoder"):
        assert AutoModel.from_pretrained(tmp_path / tower).config.hidden_size == 64
        assert AutoTokenizer.from_pretrained(tmp_path / tower).tokenize("The") == ["the"]
    assert not list(tmp_path.rglob("*.bin"))


def test_saved_crossencoder_scores_identically(golden: Path, tmp_path: Path) -> None:
    model, known = new_crossencoder(golden / "bert", build_recipe("smoke").train_crossencoder)
    save_crossencoder(model, known, load_tokenizer(golden / "bert", lowercase=True), tmp_path)
    again, known_again, _ = load_crossencoder(tmp_path)
    pairs = pair_batch(TABLE, TABLE, 128, 0, CPU)
    with torch.no_grad():
        assert torch.equal(model.eval()(pairs), again.eval()(pairs))
    assert known_again == known


def test_pair_drops_padding_and_second_cls_but_keeps_positions() -> None:
    (part,), places = pair_batch(TABLE, np.array([[5, 7, 6, 0], [5, 8, 9, 6]], dtype=np.int32), 128, 0, CPU)
    assert places.tolist() == [0, 1]
    assert part.mask is None
    assert part.segments is not None
    assert part.positions is not None
    assert part.ids.tolist() == [[5, 20, 30, 6, 7, 6], [5, 40, 6, 8, 9, 6]]
    assert part.segments.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert part.positions.tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 4, 5, 6]]


def test_pair_is_cut_as_if_padded() -> None:
    (part,), _ = pair_batch(TABLE[1:], np.array([[5, 8, 9, 6]], dtype=np.int32), 6, 0, CPU)
    assert part.ids.tolist() == [[5, 40, 6, 8, 9]]


def test_pull_from_layer_encodes_that_layer_and_freezes_those_above(golden: Path) -> None:
    bert = load_bert(golden / "bert").eval()
    encoder = Encoder(bert, pull_from_layer=1).eval()
    with torch.no_grad():
        hidden = bert(IDS, attention_mask=IDS != 0, output_hidden_states=True).hidden_states
        torch.testing.assert_close(encoder(BATCH), hidden[1][:, 0], atol=1e-6, rtol=1e-5)
    encoder.freeze_unused()
    frozen = {name.split(".")[3] for name, p in encoder.named_parameters() if "layer." in name and not p.requires_grad}
    assert frozen == {"1"}


def test_scores_in_bf16_are_as_distinct_as_in_fp32(golden: Path) -> None:
    """bf16 has 8 bits. A score in it would often equal that of another candidate."""
    torch.manual_seed(0)
    model, _ = new_crossencoder(golden / "bert", build_recipe("smoke").train_crossencoder)
    rows = np.random.default_rng(0).integers(10, 2900, (64, 24)).astype(np.int32)
    pairs = pair_batch(np.repeat(rows[:1], 64, axis=0), rows, 48, 0, CPU)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        scores = model.eval()(pairs)
    assert scores.dtype == torch.float32
    assert len(scores.unique()) == 64


def test_missing_layer_is_refused(golden: Path) -> None:
    with pytest.raises(ConfigError, match="pull_from_layer: expected -3 to 2 for a model of 2 layers, got 3"):
        Encoder(load_bert(golden / "bert"), pull_from_layer=3)


def test_blink_weights_round_trip_unchanged(golden: Path, tmp_path: Path) -> None:
    model, _ = new_biencoder(golden / "bert", build_recipe("smoke").train_biencoder)
    load_blink_weights(model, golden / "bi" / "pytorch_model.bin")
    save_blink_weights(model, tmp_path / "out.bin")
    ours, blinks = (torch.load(p, weights_only=True) for p in (tmp_path / "out.bin", golden / "bi/pytorch_model.bin"))
    assert set(ours) == {name for name in blinks if "position_ids" not in name}
    assert all(torch.equal(ours[name], blinks[name]) for name in ours)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_blink_weights_of_another_type_are_refused(golden: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    model, _ = new_biencoder(golden / "bert", build_recipe("smoke").train_biencoder)
    weights = torch.load(golden / "bi" / "pytorch_model.bin", weights_only=True)
    torch.save({name: weight.to(dtype) for name, weight in weights.items()}, tmp_path / "weights.bin")
    with pytest.raises(DataError, match=f"weights of another type.*floating point.*{str(dtype)[6:]}"):
        load_blink_weights(model, tmp_path / "weights.bin")


def test_blink_weights_load_into_biencoder_with_temperature(golden: Path) -> None:
    config = build_recipe("smoke", {"similarity": "cosine", "temperature": 0.1}).train_biencoder
    model, _ = new_biencoder(golden / "bert", config)
    load_blink_weights(model, golden / "bi" / "pytorch_model.bin")
    assert model.log_scale is not None
    assert model.log_scale.exp().item() == pytest.approx(10)
    scores = [left @ right.T for left, right in [model.eval()(BATCH, BATCH)]]
    assert scores[0].abs().max() <= 10 + 1e-4


def test_temperature_below_its_bound_still_learns(golden: Path) -> None:
    config = build_recipe("smoke", {"similarity": "cosine", "temperature": 0.01}).train_biencoder
    model, _ = new_biencoder(golden / "bert", config)
    with torch.no_grad():
        model.log_scale += 1
    mentions, entities = model(BATCH, BATCH)
    assert mentions.norm(dim=1).detach().numpy() == pytest.approx(100, rel=1e-4)
    (mentions @ entities.T).sum().backward()
    assert model.log_scale.grad.abs() > 1


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from a weight file ran",)


@pytest.mark.parametrize("content", ["hostile", "garbage", "other"])
def test_file_without_weights_is_refused(
    golden: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pytorch_model.bin"
    if content == "hostile":
        torch.save({"x": Hostile()}, path)
    elif content == "garbage":
        path.write_bytes(b"not a weight file")
    else:
        torch.save({"x": torch.zeros(1)}, path)
    model, _ = new_biencoder(golden / "bert", build_recipe("smoke").train_biencoder)
    with pytest.raises(DataError, match=r"pytorch_model\.bin"):
        load_blink_weights(model, path)
    assert "ran" not in capsys.readouterr().out


def test_tokenizer_lowercases_only_if_asked(golden: Path) -> None:
    assert load_tokenizer(golden / "bert", lowercase=True).tokenize("The") == ["the"]
    assert load_tokenizer(golden / "bert", lowercase=False).tokenize("The") != ["the"]


class _Reads(TorchDispatchMode):
    """Counts the values that the host reads from a tensor, for which it would wait for a GPU."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_forward_pass_reads_no_value_on_the_host(golden: Path, pooling: Pooling) -> None:
    encoder = Encoder(load_bert(golden / "bert"), pooling=pooling)
    with _Reads() as reads:
        encoder(BATCH)
    assert BATCH.parts[0].mask is not None
    assert reads.count == 0
