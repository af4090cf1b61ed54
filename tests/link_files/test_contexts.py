from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from zeshel_tasks.data.raw_text import tokenized
from zeshel_tasks.link_files import contexts
from zeshel_tasks.link_files.contexts import TextMention, mention_of_text, mention_of_tokens


def test_a_plain_text_gets_the_tokens_of_the_data_sets() -> None:
    text = "Mr. Tyler's\ncar (a Ford) left."
    found = mention_of_text(text, 4, 11, 4, "Tyler")
    assert found == TextMention("Mr .", "Tyler ' s", "car ( a Ford", "Tyler")


@given(st.text("ab .\n", max_size=400), st.integers(0, 400), st.integers(1, 5), st.integers(1, 30))
def test_only_the_tokens_near_the_mention_are_looked_at(text: str, start: int, length: int, count: int) -> None:
    start = min(start, len(text))
    end = min(start + length, len(text))
    # The first look often ends within a token, and the last one sees all.
    with mock.patch.multiple(contexts, _CHARACTERS_A_TOKEN=1, _MOST_CHARACTERS_A_TOKEN=512):
        found = mention_of_text(text, start, end, count)
    left, right = (tokenized(part)[0].split(" ") for part in (text[:start], text[end:]))
    assert found.context_left == " ".join(left[-count:])
    assert found.context_right == " ".join(right[:count])


def test_of_a_huge_word_only_the_near_part_is_read() -> None:
    found = mention_of_text("x" * 100_000 + " here " + "y" * 100_000, 100_001, 100_005, 8)
    near = 64 * (8 + 1) - 1  # besides a space
    assert (len(found.context_left), found.mention, len(found.context_right)) == (near, "here", near)


def test_a_text_of_tokens_stays_as_it_is() -> None:
    assert mention_of_tokens("a ... 2% b c 's d", 6, 10, 2, "p") == TextMention("a ...", "2% b", "c 's", "p")
    assert mention_of_tokens("a b", 0, 1, 2) == TextMention("", "a", "b")
