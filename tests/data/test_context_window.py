from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from zeshel_tasks.data.context_window import context_quotas, first_words, last_words
from zeshel_tasks.models.tokenizer import load_tokens

TOKENS = load_tokens(Path(__file__).parents[1] / "golden" / "bert", lowercase=True)
# Control codes have no tokens, so many words may have few tokens. Two consecutive spaces have an empty word between.
words = st.lists(st.sampled_from(["the", "sword", "東京", "65%", "ve'", "", "\x00", "\x00"]), max_size=60).map(" ".join)


@given(max_length=st.integers(8, 128), mention=st.integers(2, 60), left=st.integers(0, 200), right=st.integers(0, 200))
def test_quotas_fill_the_window_and_never_exceed_it(max_length: int, mention: int, left: int, right: int) -> None:
    mention = min(mention, max_length - 2)
    quotas = context_quotas(max_length, mention, left, right)
    assert min(quotas) >= 0
    used = min(left, quotas[0]) + min(right, quotas[1]) + mention + 2
    assert used <= max_length
    if left + right >= max_length and mention <= max_length - 4:
        assert used >= max_length - 1


@given(left=words, mention=words, right=words, max_length=st.integers(8, 64))
def test_window_equals_that_of_full_tokenization(left: str, mention: str, right: str, max_length: int) -> None:
    whole_left, middle, whole_right = TOKENS._ids([left, mention, right])
    marked = [TOKENS.mention_start, *middle[: max_length - 4], TOKENS.mention_end]
    quotas = context_quotas(max_length, len(marked), len(whole_left), len(whole_right))
    kept_left = whole_left[-quotas[0] :] if quotas[0] else []
    expected = [TOKENS.cls, *kept_left, *marked, *whole_right[: quotas[1]], TOKENS.sep]
    (row,) = TOKENS.mentions([(left, mention, right)], max_length)
    assert row.tolist() == expected + [TOKENS.pad] * (max_length - len(expected))


@given(text=words, count=st.integers(1, 70))
def test_first_and_last_words_match_slices_of_split_text(text: str, count: int) -> None:
    everything = text.split(" ")
    assert first_words(text, count).split(" ") == everything[:count]
    assert last_words(text, count).split(" ") == everything[-count:]
