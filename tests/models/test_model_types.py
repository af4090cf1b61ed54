"""Each model type that is accepted computes what its own forward pass in transformers computes; others are refused."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from tests.models.families import ACCEPTED, POSITIONS
from tests.models.reference import Reference
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.data.tokens import MARKERS, Tokens
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.evaluation.encoding import encode_rows
from zeshel_tasks.models.batches import token_batch
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.models.biencoder import load_biencoder, mention_tower, new_biencoder, save_biencoder
from zeshel_tasks.models.crossencoder import load_crossencoder, new_crossencoder, pair_batch, save_crossencoder
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.models.markers import with_markers
from zeshel_tasks.models.model_types import MODEL_TYPES, model_shape
from zeshel_tasks.models.tokenizer import load_tokenizer, load_tokens
from zeshel_tasks.recipe import build_recipe

LENGTH, PAIR = 36, 60
MENTIONS = [
    ("The  dawn of the", "Sword", "of  Dawn\tthe sword 東京 the"),
    ("", "the sword", ""),
    ("of é", "x9", "the sword of the sword of the dawn of the dawn"),
]
ENTITIES = [("The Sword", "the sword\n of Dawn"), ("Dawn", ""), ("é 東京", "The Dawn of the sword " * 3)]


@pytest.fixture(scope="module", params=ACCEPTED)
def pretrained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("families") / request.param.replace(" ", "_")
    ACCEPTED[request.param](directory)
    return directory


@pytest.fixture(scope="module")
def start(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with all markers."""
    return with_markers(pretrained, tmp_path_factory.mktemp("start") / "with_markers", lowercase=True, seed=3)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    ACCEPTED["bert"](tmp_path / "bert")
    return tmp_path / "bert"


def change_config(directory: Path, **changed: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def recipe(**settings: object) -> Recipe:
    lengths = {"max_context_length": LENGTH, "max_cand_length": LENGTH, "max_seq_length": PAIR}
    return build_recipe("smoke", {**lengths, "attention_dropout": 0.0, **settings})


def rows(table: np.ndarray, pad: int) -> list[list[int]]:
    return [[int(token) for token in row if token != pad] for row in table]


def tables(tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    return tokens.mentions(MENTIONS, LENGTH), tokens.candidates(ENTITIES, LENGTH)


@pytest.mark.parametrize(("pooling", "lowercase"), [("cls", True), ("mean", False), ("span_and_mean", True)])
def test_biencoder_equals_forward_of_transformers(start: Path, tmp_path: Path, pooling: str, lowercase: bool) -> None:
    model, settings = new_biencoder(start, recipe(pooling=pooling, lowercase=lowercase).train_biencoder)
    save_biencoder(model, settings, load_tokenizer(start, lowercase=lowercase), tmp_path)
    model, settings, tokens = load_biencoder(tmp_path)
    contexts, entities = tables(tokens)
    reference = Reference(start, LENGTH, PAIR, lowercase=lowercase)
    expected = [reference.mention(*parts) for parts in MENTIONS], [reference.entity(*parts) for parts in ENTITIES]
    assert (rows(contexts, tokens.pad), rows(entities, tokens.pad)) == expected
    for encoder, table, sequences in zip(
        (model.context_encoder, model.cand_encoder), (contexts, entities), expected, strict=True
    ):
        found = encode_rows(encoder.eval(), table, tokens.pad, Accelerator(cpu=True))
        of_table = pooling if table is contexts or pooling == "cls" else "mean"
        vectors = torch.stack([reference.vector(ids, of_table) for ids in sequences])
        torch.testing.assert_close(found, vectors, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("from_biencoder", "lowercase"), [(False, True), (True, False)])
def test_crossencoder_equals_forward_of_transformers(
    start: Path, tmp_path: Path, from_biencoder: bool, lowercase: bool
) -> None:
    bert, settings_of_both = start, recipe(lowercase=lowercase)
    if from_biencoder:
        biencoder, tokenizer = tmp_path / "biencoder", load_tokenizer(bert, lowercase=True)
        save_biencoder(*new_biencoder(bert, settings_of_both.train_biencoder), tokenizer, biencoder)
        bert = mention_tower(biencoder)
        assert with_markers(bert, tmp_path / "never", lowercase=lowercase, seed=3) == bert
    crossencoder = new_crossencoder(bert, settings_of_both.train_crossencoder)
    save_crossencoder(*crossencoder, load_tokenizer(bert, lowercase=lowercase), tmp_path)
    model, settings, tokens = load_crossencoder(tmp_path)
    reference = Reference(start, LENGTH, PAIR, lowercase=lowercase)
    contexts, entities = tables(tokens)
    pairs = pair_batch(contexts, entities, settings.max_seq_length, tokens.pad, torch.device("cpu"))
    pooled = [
        reference.pooled_pair(reference.mention(*mention), reference.entity(*entity))
        for mention, entity in zip(MENTIONS, ENTITIES, strict=True)
    ]
    linear = load_file(tmp_path / "encoder" / "additional_linear.safetensors")
    expected = torch.stack(pooled) @ linear["weight"][0] + linear["bias"]
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(pairs), expected, atol=1e-5, rtol=1e-4)


def test_text_from_data_never_becomes_a_special_token(start: Path) -> None:
    tokens = load_tokens(start, lowercase=False)
    spelled = " ".join(tokens.tokenizer.all_special_tokens) + "x<s>x</s>x<pad> [unused0] [unused2][CLS]"
    (mention,), (entity,) = (
        tokens.mentions([(spelled, "x", spelled)], 512),
        tokens.candidates([(spelled, spelled)], 512),
    )
    for row, markers in ((mention, [tokens.mention_start, tokens.mention_end]), (entity, [tokens.title_end])):
        ids = rows(row[None], tokens.pad)[0]
        special = [id_ for id_ in ids if id_ in {*tokens.tokenizer.all_special_ids, *markers} - {unknown(tokens)}]
        assert special == [tokens.cls, *markers, tokens.sep]


def test_marker_in_text_from_data_stays_text(start: Path) -> None:
    tokens = load_tokens(start, lowercase=False)
    (row,) = tokens.candidates([("[unused0]", "")], 32)
    assert len(rows(row[None], tokens.pad)[0]) > len(["[CLS]", "[", "]", "[unused2]", "[SEP]"])


def unknown(tokens: Tokens) -> int:
    return int(tokens.tokenizer.unk_token_id)


def test_first_words_of_a_long_text_have_the_tokens_of_the_whole(start: Path) -> None:
    tokens = load_tokens(start, lowercase=False)
    text = "The  Sword of\u00a0Dawn 's \n é " * 30
    (short,), (whole,) = (tokens.candidates([("x", text)], length) for length in (16, 1024))
    assert short[:-1].tolist() == whole[:15].tolist()
    (short,), (whole,) = (tokens.mentions([(text, "the", text)], length) for length in (17, 1024))
    middle = whole.tolist().index(tokens.mention_start)
    assert short[1:-1].tolist() == whole[middle - 6 : middle + 9].tolist()


def test_sequences_of_as_many_tokens_as_positions_are_encoded(start: Path) -> None:
    settings = {"max_context_length": POSITIONS, "max_cand_length": POSITIONS, "max_seq_length": 256}
    too_long = recipe(**settings)
    model, _ = new_biencoder(start, too_long.train_biencoder)
    tokens = load_tokens(start, lowercase=False)
    full = tokens.candidates([("x", "the sword " * POSITIONS)], POSITIONS)
    assert (full != tokens.pad).all()
    assert encode_rows(model.eval().cand_encoder, full, tokens.pad, Accelerator(cpu=True)).isfinite().all()
    with pytest.raises(ConfigError, match=f"max_seq_length: expected at most {POSITIONS}, .* got {2 * POSITIONS - 1}"):
        new_crossencoder(start, too_long.train_crossencoder)
    longer = too_long.train_biencoder.model_copy(update={"max_context_length": POSITIONS + 1})
    with pytest.raises(ConfigError, match=f"max_context_length: expected at most {POSITIONS}, .* got {POSITIONS + 1}"):
        new_biencoder(start, longer)


@pytest.mark.parametrize("name", ["cased bert", "bert with spare embeddings", "roberta", "camembert"])
def test_added_markers_are_seeded_and_change_nothing_else(tmp_path: Path, name: str) -> None:
    ACCEPTED[name](tmp_path / "before")
    first, again, other = (
        with_markers(tmp_path / "before", tmp_path / copy, lowercase=True, seed=seed)
        for copy, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    before, after, others = (load_file(folder / "model.safetensors") for folder in (tmp_path / "before", first, other))
    table, known = "embeddings.word_embeddings.weight", len(load_tokenizer(tmp_path / "before", lowercase=True))
    words, markers = after[table], load_tokenizer(first, lowercase=True).convert_tokens_to_ids(MARKERS)
    assert torch.equal(words[:known], before[table][:known])
    assert len(words[markers].unique(dim=0)) == len(MARKERS)
    added = [marker for marker in markers if marker >= known]
    assert added
    assert not torch.equal(words[added], others[table][added])
    assert 0.1 < words[added].std() < 0.5  # like the other words
    assert all(torch.equal(after[name], weight) for name, weight in before.items() if name != table)


def test_attention_dropout_replaces_that_of_the_model_but_is_not_saved_as_its_own(start: Path, tmp_path: Path) -> None:
    """A cross-encoder that starts from the bi-encoder and has no setting gets the dropout of the pretrained model."""

    def is_random(model: Any) -> bool:
        first, second = (model.train()(input_ids=torch.tensor([[5, 6, 7, 8, 9, 10]]))[0] for _ in range(2))
        return not torch.equal(first, second)

    assert is_random(load_bert(start))
    assert not is_random(load_bert(start, 0.0))
    model, settings = new_biencoder(start, recipe(attention_dropout=0.0).train_biencoder)
    save_biencoder(model, settings, load_tokenizer(start, lowercase=True), tmp_path)
    assert is_random(load_bert(mention_tower(tmp_path)))
    configs = [json.loads((folder / "config.json").read_text()) for folder in (start, mention_tower(tmp_path))]
    assert configs[0] == configs[1]


OTHERS = [
    "albert", "big_bird", "deberta", "deberta-v2", "distilbert", "electra", "esm", "gpt2", "longformer",
    "megatron-bert", "mobilebert", "modernbert", "mpnet", "rembert", "roberta-prelayernorm", "roformer", "t5",
    "xlm-roberta-xl", "xmod",
]  # fmt: skip


@pytest.mark.parametrize("model_type", OTHERS)
def test_other_model_type_is_refused_by_name(tmp_path: Path, model_type: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    for read in (model_shape, load_bert, lambda directory: load_tokenizer(directory, lowercase=True)):
        with pytest.raises(ConfigError, match=rf"model_type: expected .* roberta, xlm-roberta, got '{model_type}'$"):
            read(tmp_path)


def test_all_accepted_types_are_tested() -> None:
    assert set(MODEL_TYPES) <= ACCEPTED.keys()


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize(
    ("field", "value"),
    [("is_decoder", True), ("add_cross_attention", True), ("position_embedding_type", "relative_key")],
)
def test_model_that_computes_something_else_is_refused(
    tmp_path: Path, model_type: str, field: str, value: object
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, field: value}))
    with pytest.raises(ConfigError, match=rf"bert_model: .*config\.json: {field}: Input should be .*; got {value!r}$"):
        model_shape(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("layer_norm_eps", -1e-12, "greater than 0; got -1e-12"),
        ("layer_norm_eps", "1e-12", "a valid number; got '1e-12'"),
        ("layer_norm_eps", math.nan, "got nan"),
        ("hidden_dropout_prob", 1.0, "less than 1; got 1.0"),
        ("hidden_dropout_prob", math.nan, "got nan"),
        ("attention_probs_dropout_prob", 1, "less than 1; got 1"),
        ("quantization_config", {"quant_method": "new"}, "None; got {'quant_method': 'new'}"),
        ("dtype", "half a byte", "AttributeError"),
        ("initializer_range", "x", "expected float, got str"),
    ],
)
def test_value_that_cannot_be_trained_is_refused_by_name_of_its_file(
    bert: Path, field: str, value: object, words: str
) -> None:
    change_config(bert, **{field: value})
    for read in (load_bert, lambda directory: load_tokenizer(directory, lowercase=True)):
        with pytest.raises(ConfigError) as error:
            read(bert)
        assert str(error.value).startswith(f"bert_model: {bert / 'config.json'}: ")
        assert words in str(error.value)


@pytest.mark.parametrize(
    "saved",
    [
        {"chunk_size_feed_forward": 5},
        {"output_attentions": True, "output_hidden_states": True},
        {"output_attentions": True, "_attn_implementation": "sdpa"},
        {"_attn_implementation": "flash_attention_2", "dtype": "float16", "return_dict": False},
    ],
)
def test_settings_saved_for_other_uses_change_nothing(bert: Path, saved: dict[str, Any]) -> None:
    row = token_batch(np.array([[5, 6, 7, 8, 9, 10, 11]], dtype=np.int32), 0, torch.device("cpu"))
    expected = Encoder(load_bert(bert), pooling="mean").eval()(row)
    change_config(bert, **saved)
    load_tokenizer(bert, lowercase=True)
    assert torch.equal(Encoder(load_bert(bert), pooling="mean").eval()(row), expected)


def test_quantized_weights_are_refused(bert: Path) -> None:
    weights = load_file(bert / "model.safetensors")
    save_file({name: weight.to(torch.int8) for name, weight in weights.items()}, bert / "model.safetensors")
    with pytest.raises(ConfigError, match=r"weights in floating point in .*, got only integers in embeddings\.word_"):
        load_bert(bert)


@pytest.mark.parametrize("part", ["embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.weight"])
def test_file_that_ends_in_zeros_is_refused(bert: Path, part: str) -> None:
    weights = load_file(bert / "model.safetensors")
    save_file({**weights, part: torch.zeros_like(weights[part])}, bert / "model.safetensors")
    with pytest.raises(ConfigError, match=f"weights in floating point in .*, got only zeros in {part}"):
        load_bert(bert)
    segments = "embeddings.token_type_embeddings.weight"
    save_file({**weights, segments: torch.zeros_like(weights[segments])}, bert / "model.safetensors")
    load_bert(bert)


def test_half_precision_weights_are_read(bert: Path) -> None:
    weights = {name: weight.half() for name, weight in load_file(bert / "model.safetensors").items()}
    save_file(weights, bert / "model.safetensors")
    read = load_bert(bert).state_dict()
    assert all(torch.equal(read[name], weight.float()) for name, weight in weights.items())


def test_names_of_renamed_weights_are_shown(bert: Path) -> None:
    """Such as those that DataParallel writes."""
    weights = {f"module.{name}": weight for name, weight in load_file(bert / "model.safetensors").items()}
    save_file(weights, bert / "model.safetensors")
    names = r"without embeddings\.LayerNorm\.bias .*, but with module\.embeddings\.LayerNorm\.bias$"
    with pytest.raises(ConfigError, match=names):
        load_bert(bert)


def test_padding_token_of_another_number_is_refused(tmp_path: Path) -> None:
    ACCEPTED["roberta"](tmp_path / "roberta")
    change_config(tmp_path / "roberta", pad_token_id=0)
    with pytest.raises(ConfigError, match=r"pad_token_id: expected 1, the number of the tokenizer's <pad>, got 0"):
        load_tokenizer(tmp_path / "roberta", lowercase=True)


def test_tokenizer_that_always_lowercases_is_refused_for_cased_text(tmp_path: Path) -> None:
    ACCEPTED["bert"](tmp_path / "bert")
    path = tmp_path / "bert" / "tokenizer_config.json"
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    path.write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}))
    backend = tmp_path / "bert" / "tokenizer.json"
    load_tokenizer(tmp_path / "bert", lowercase=False)
    rules = json.loads(backend.read_text())
    rules["normalizer"]["lowercase"] = True
    backend.write_text(json.dumps(rules))
    load_tokenizer(tmp_path / "bert", lowercase=True)
    with pytest.raises(ConfigError, match=r"^lowercase: expected true for the tokenizer in .*, got false$"):
        load_tokenizer(tmp_path / "bert", lowercase=False)


def test_vocabulary_with_a_token_twice_gets_no_markers(tmp_path: Path) -> None:
    """The library would give a marker the number of the last token."""
    ACCEPTED["bert with spare embeddings"](tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer.json").unlink()
    vocabulary = tmp_path / "bert" / "vocab.txt"
    vocabulary.write_text(vocabulary.read_text().replace("\ndawn\n", "\nDawn\n"))
    with pytest.raises(ConfigError, match=r"bert_model: expected a vocabulary without gaps in .*got \d+ tokens with"):
        with_markers(tmp_path / "bert", tmp_path / "copy", lowercase=True, seed=0)
