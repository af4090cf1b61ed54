import pytest

from zeshel_tasks.linking.words import content_words, plain_name, without_parenthesis, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Death-Star's plan_B, v2!", ["the", "death", "star", "s", "plan", "b", "v2"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("ﬁle １２", ["file", "12"]),  # ligature and wide digits
        ("cafe\u0301 caf\u00e9", ["café", "café"]),
        ("東京タワー、大阪", ["東京タワー", "大阪"]),
        ("... \ud800 --", []),
    ],
)
def test_words_are_normalized_runs_of_letters_and_digits(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_context_leaves_stopwords_out() -> None:
    assert content_words("This is the end of it") == ["end"]


@pytest.mark.parametrize(
    ("title", "bare"),
    [
        ("Mercury (planet)", "mercury"),
        ("Mercury ( planet ) ", "mercury"),
        ("f(x) of (a) b", "f x of a b"),
        ("(unnamed)", ""),
    ],
)
def test_only_the_parenthesis_at_the_end_of_a_title_is_dropped(title: str, bare: str) -> None:
    assert plain_name(without_parenthesis(title)) == bare
