from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer

from zeshel_tasks.config.retrieval import CandidateForm
from zeshel_tasks.data.tokens import Prompts, Tokens, write_table
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.tokenizer import load_tokenizer, load_tokens

GOLDEN_BERT = Path(__file__).parents[1] / "golden" / "bert"
TOKENS, CASED = (load_tokens(GOLDEN_BERT, lowercase=lowercase) for lowercase in (True, False))
words = st.lists(st.sampled_from(["the", "sword", "of", "東京", "65%", "…", "ve'", "\x00"]), max_size=40).map(" ".join)


def unpadded(row: np.ndarray) -> list[int]:
    return [int(token) for token in row if token != TOKENS.pad]


@given(left=words, mention=words, right=words, max_length=st.integers(8, 64))
def test_mention_keeps_both_markers_and_fits_window(left: str, mention: str, right: str, max_length: int) -> None:
    (row,) = TOKENS.mentions([(left, mention, right)], max_length)
    ids = unpadded(row)
    assert len(row) == max_length
    assert ids[0] == TOKENS.cls
    assert ids[-1] == TOKENS.sep
    assert ids.count(TOKENS.mention_start) == ids.count(TOKENS.mention_end) == 1


def test_mention_longer_than_window_keeps_first_tokens_without_context() -> None:
    (row,) = TOKENS.mentions([("left", "the " * 50, "right")], 16)
    the = TOKENS.mentions([("", "the", "")], 16)[0][2]
    assert list(row) == [TOKENS.cls, TOKENS.mention_start, *[the] * 12, TOKENS.mention_end, TOKENS.sep]


def test_zero_left_quota_drops_left_context() -> None:
    (row,) = TOKENS.mentions([("sword " * 9, "the the the", "the")], 8)
    assert list(row)[:2] == [TOKENS.cls, TOKENS.mention_start]


@given(title=words, text=words, max_length=st.integers(8, 64))
def test_candidate_is_title_marker_and_text_cut_to_length(title: str, text: str, max_length: int) -> None:
    (row,) = TOKENS.candidates([(title, text)], max_length)
    (whole,) = TOKENS.candidates([(title, text)], 512)
    body = unpadded(whole)[1:-1]
    assert unpadded(row) == [TOKENS.cls, *body[: max_length - 2], TOKENS.sep]
    assert body.count(TOKENS.title_end) == 1


def prompted(mention: str = "", candidate: str = "") -> Tokens:
    return load_tokens(GOLDEN_BERT, lowercase=True, prompts=Prompts(mention, candidate))


@given(left=words, mention=words, right=words, max_length=st.integers(8, 64))
def test_prompt_comes_first_and_leaves_a_smaller_window(left: str, mention: str, right: str, max_length: int) -> None:
    tokens, prompt = prompted("The sword: "), unpadded(TOKENS.candidates([("The sword:", "")], 32)[0])[1:-2]
    (row,) = tokens.mentions([(left, mention, right)], max_length + len(prompt))
    (alone,) = TOKENS.mentions([(left, mention, right)], max_length)
    assert unpadded(row) == [TOKENS.cls, *prompt, *unpadded(alone)[1:]]


def test_candidate_with_prompt_is_cut_to_the_same_length() -> None:
    (row,) = prompted(candidate="of the:").candidates([("sword", "the " * 50)], 16)
    (plain,) = TOKENS.candidates([("of the: sword", "the " * 50)], 16)
    np.testing.assert_array_equal(row, plain)


def test_prompt_is_text_and_no_marker() -> None:
    (row,) = prompted("[CLS] [unused0] the").mentions([("", "sword", "")], 32)
    assert [list(row).count(token) for token in (TOKENS.cls, TOKENS.mention_start)] == [1, 1]


def test_prompt_that_leaves_too_few_tokens_is_refused() -> None:
    tokens = prompted("the " * 9, "the " * 9)
    with pytest.raises(
        ConfigError, match=r"mention_prompt: .* at most 8 tokens, .* max_context_length \(16\), got .* 9"
    ):
        tokens.mentions([("", "sword", "")], 16)
    with pytest.raises(ConfigError, match=r"candidate_prompt: .* at most 0 tokens, .* max_cand_length \(8\), got .* 9"):
        tokens.candidates([("sword", "")], 8)
    assert len(tokens.mentions([("", "sword", "")], 17)) == 1


def test_prompt_of_candidates_is_part_of_the_identity() -> None:
    known = {tokens.identity(32) for tokens in (TOKENS, prompted(candidate="the"), prompted(candidate="of"))}
    assert len(known) == 3
    assert prompted("the").identity(32) == TOKENS.identity(32)


def test_vanishing_words_do_not_change_ids_of_long_page() -> None:
    vanishing = "\x00 " * 100 + "sword of the sword"
    (cut,) = TOKENS.candidates([("the", vanishing)], 8)
    (clean,) = TOKENS.candidates([("the", "sword of the sword")], 8)
    np.testing.assert_array_equal(cut, clean)


# Line ends and separators of ASCII and Unicode. BERT takes some for spaces and removes the others.
@pytest.mark.parametrize("separator", "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u2003\u2028\u2029\u3000\u200b\ufeff")
def test_candidate_and_context_are_split_alike(separator: str) -> None:
    text = " ".join([f"the{separator}sword"] * 40)
    context = unpadded(TOKENS.mentions([("", "of", text)], 32)[0])[4:-1]
    for body in (unpadded(row)[1:-1] for row in TOKENS.candidates([("", text), (text, "")], 32)):
        ids = [id_ for id_ in body if id_ != TOKENS.title_end]
        assert ids[: len(context)] == context


def test_text_from_data_never_becomes_a_special_token() -> None:
    (row,) = TOKENS.candidates([("[SEP] [CLS]", "[MASK] [PAD] x")], 64)
    assert unpadded(row).count(TOKENS.sep) == 1
    assert unpadded(row).count(TOKENS.cls) == 1


def test_vocabulary_without_markers_is_refused_by_name(tmp_path: Path) -> None:
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "the"]))
    with pytest.raises(ConfigError, match=r"got one without \[unused1\]"):
        Tokens(BertTokenizer(str(vocabulary)), lowercase=True)


@pytest.mark.parametrize("given_rows", [2, 4])
def test_wrong_number_of_rows_is_an_error(tmp_path: Path, given_rows: int) -> None:
    with pytest.raises(ValueError, match="3"):
        write_table(tmp_path / "t.npy", 3, 8, range(given_rows), lambda batch: np.zeros((len(batch), 8), np.int32))


@pytest.mark.parametrize("part", range(3))
def test_case_of_mention_and_context_counts_only_without_lowercase(part: int) -> None:
    lower = ["the", "sword", "of"]
    upper = [word.upper() if number == part else word for number, word in enumerate(lower)]
    for tokens, equal in ((TOKENS, True), (CASED, False)):
        first, second = tokens.mentions([(lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])], 16)
        assert np.array_equal(first, second) is equal


@pytest.mark.parametrize(("form", "part"), [("title_and_text", 0), ("title_and_text", 1), ("blink_eval", 1)])
def test_case_of_candidate_counts_only_without_lowercase(form: CandidateForm, part: int) -> None:
    lower = ["the sword", "the sword of the sword"]
    upper = [text.title() if number == part else text for number, text in enumerate(lower)]
    for tokens, equal in ((TOKENS, True), (CASED, False)):
        first, second = tokens.candidates([(lower[0], lower[1]), (upper[0], upper[1])], 16, form)
        assert np.array_equal(first, second) is equal


def test_case_is_part_of_the_identity() -> None:
    tokenizer = load_tokenizer(GOLDEN_BERT, lowercase=False)
    assert len({tokens.identity(64) for tokens in (TOKENS, CASED, Tokens(tokenizer, lowercase=True))}) == 3
