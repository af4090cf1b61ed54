from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertModel, BertTokenizer

from zeshel_tasks.demo.sample_worlds import write_sample_worlds
from zeshel_tasks.demo.small_bert import build_small_bert, make_small_bert
from zeshel_tasks.demo.small_bert_pretraining import pretrain_matching
from zeshel_tasks.demo.train_pages import read_train_pages
from zeshel_tasks.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("worlds") / "worlds.tar.bz2"
    write_sample_worlds(path, entities_per_world=40, mentions_per_world=20)
    return path


@pytest.fixture(scope="module")
def directory(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small-bert")
    build_small_bert(archive, path, max_pretraining_steps=0)
    return path


def test_model_and_tokenizer_open_with_auto_classes(directory: Path) -> None:
    model, tokenizer = AutoModel.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    assert isinstance(model, BertModel)
    assert isinstance(tokenizer, BertTokenizer)
    output = model(**tokenizer("A proud ferry .", "Another one .", return_tensors="pt"))
    assert output.last_hidden_state.shape[-1] == output.pooler_output.shape[-1] == model.config.hidden_size
    assert torch.isfinite(output.last_hidden_state).all()


def test_weights_are_saved_as_safetensors(directory: Path) -> None:
    assert (directory / "model.safetensors").is_file()
    assert not list(directory.glob("*.bin"))


def test_vocabulary_has_markers_and_starts_with_padding(directory: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    vocabulary = tokenizer.get_vocab()
    assert {"[unused0]", "[unused1]", "[unused2]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"} <= set(vocabulary)
    assert vocabulary["[PAD]"] == tokenizer.pad_token_id == 0
    assert len(tokenizer) == AutoModel.from_pretrained(directory).config.vocab_size
    assert (directory / "vocab.txt").read_text().splitlines() == sorted(vocabulary, key=vocabulary.__getitem__)


def test_tokenizer_lower_cases_text_and_splits_unseen_names(directory: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert tokenizer.tokenize("FERRY") == tokenizer.tokenize("ferry")
    assert "[UNK]" not in tokenizer.tokenize("Zwomquarth is a ferry .")
    assert len(tokenizer.tokenize("zwomquarth")) > 1


def test_start_weights_depend_only_on_seed(archive: Path, tmp_path: Path) -> None:
    for name, seed in (("first", 7), ("again", 7), ("other", 8)):
        build_small_bert(archive, tmp_path / name, seed, max_pretraining_steps=0)
    weights, vocabulary = "model.safetensors", "vocab.txt"
    first = (tmp_path / "first" / weights).read_bytes()
    assert (tmp_path / "again" / weights).read_bytes() == first
    assert (tmp_path / "other" / weights).read_bytes() != first
    for name in ("again", "other"):
        assert (tmp_path / name / vocabulary).read_bytes() == (tmp_path / "first" / vocabulary).read_bytes()


def test_building_leaves_random_state_unchanged(archive: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    build_small_bert(archive, tmp_path, max_pretraining_steps=0)
    assert torch.equal(torch.rand(3), expected)


def test_half_of_first_layer_heads_match_tokens_across_segments() -> None:
    torch.manual_seed(0)
    model = make_small_bert(1000)
    model.set_attn_implementation("eager")
    half = torch.randperm(980)[:30] + 20
    segments = (torch.arange(60) >= 30).long()
    with torch.no_grad():
        output = model(torch.cat([half, half])[None], token_type_ids=segments[None], output_attentions=True)
    from_first_to_second = output.attentions[0][0, :, :30, 30:]
    finds_its_copy = (from_first_to_second.argmax(-1) == torch.arange(30)).float().mean(-1)
    assert (finds_its_copy[:2] > 0.5).all()
    assert (finds_its_copy[2:] < 0.3).all()


def test_pretraining_stops_at_accuracy_and_cools_down(archive: Path, directory: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = make_small_bert(len(tokenizer))
    before = model.pooler.dense.weight.clone()
    pages = read_train_pages(archive)
    done = pretrain_matching(model, tokenizer, pages, max_steps=30, seed=7, enough=0.0, cooldown_steps=2)
    assert done.steps == 10 + 2  # the accuracy is measured over at least ten steps
    assert 0 <= done.accuracy < 0.7
    assert not torch.equal(model.pooler.dense.weight, before)
    assert not model.training


def test_pretraining_stops_at_its_limit(archive: Path, directory: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = make_small_bert(len(tokenizer))
    pages = read_train_pages(archive)
    assert pretrain_matching(model, tokenizer, pages, max_steps=2, seed=7, cooldown_steps=1).steps == 2 + 1


def test_worlds_with_too_few_pages_are_refused(tmp_path: Path) -> None:
    write_sample_worlds(tmp_path / "tiny.tar.bz2", entities_per_world=7, mentions_per_world=7)
    with pytest.raises(DataError, match="at least 8; got at most 7"):
        build_small_bert(tmp_path / "tiny.tar.bz2", tmp_path / "bert", max_pretraining_steps=1)


@pytest.mark.parametrize("vocab_size", [3, 10**6])
def test_vocabulary_size_out_of_range_is_refused(archive: Path, tmp_path: Path, vocab_size: int) -> None:
    with pytest.raises(ConfigError, match=f"vocab_size: expected 300 to 200000, got {vocab_size}"):
        build_small_bert(archive, tmp_path, vocab_size=vocab_size)
