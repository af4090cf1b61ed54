from pathlib import Path

import numpy as np
import pytest

from tests.linking.conftest import DOCUMENTS
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.linking.bm25 import best
from zeshel_tasks.linking.lexical import FILES, LEAD_WORDS, LexicalIndex
from zeshel_tasks.linking.mention_texts import MentionText
from zeshel_tasks.linking.names import NameKind


def mention(text: str, context: str = "", page: str = "") -> MentionText:
    return MentionText(text, context, page)


def test_the_title_counts_more_than_the_text(index: LexicalIndex) -> None:
    assert best(index.mention_scores(mention("Luke")), 6).tolist() == [0, 1, 5]
    assert best(index.mention_scores(mention("TATOOINE")), 6).tolist() == [1, 5, 0]


def test_aliases_are_searched(index: LexicalIndex) -> None:
    assert best(index.mention_scores(mention("five")), 6).tolist() == [0]


def test_the_context_is_a_query_of_its_own(index: LexicalIndex) -> None:
    text = mention("unknown", "they hit it with the lightsaber of")
    assert best(index.context_scores(text), 6).tolist() == [2]
    assert not index.mention_scores(text).any()


def test_names_and_the_first_words_are_fields_of_their_own(tmp_path: Path) -> None:
    later = Document("b", "Later", "word " * LEAD_WORDS + "luke five")
    LexicalIndex.write([DOCUMENTS[0], DOCUMENTS[1], later], tmp_path)
    index = LexicalIndex(tmp_path)
    assert best(index.mention_scores(mention("luke"), "lead"), 3).tolist() == [1], "only there among the first words"
    assert best(index.mention_scores(mention("luke"), "names"), 3).tolist() == [0]
    assert best(index.context_scores(mention("", "the five"), "names"), 3).tolist() == [0], "an alias is a name"
    assert set(best(index.mention_scores(mention("luke")), 3).tolist()) == {0, 1, 2}
    assert index.text_words(np.array([2, 0])).tolist() == [LEAD_WORDS + 2, 5]


@pytest.mark.parametrize("text", ["", "?!", "nobody", "\ud800"])
def test_a_mention_without_known_words_scores_nothing(index: LexicalIndex, text: str) -> None:
    scores = index.mention_scores(mention(text))
    assert scores.tolist() == [0] * len(DOCUMENTS)
    assert best(scores, 3).tolist() == []


@pytest.mark.parametrize(
    ("kind", "text", "page", "expected"),
    [
        ("title", "tatooine", "", [1, 5]),
        ("title", "jedi", "", []),
        ("title", "?", "", []),  # no words
        ("title_without_parenthesis", "Jedi", "", [2, 3]),
        ("title_without_parenthesis", "tatooine", "", []),  # that is the whole title
        ("alias", "RED five", "", [0]),
        ("alias", "tatooine", "", []),
        ("page", "tatooine", "c", [2]),
        ("page", "tatooine", "", []),
    ],
)
def test_names_are_found_by_kind(index: LexicalIndex, kind: NameKind, text: str, page: str, expected: list) -> None:
    assert index.named(kind, mention(text, page=page)).tolist() == expected


def test_a_world_without_words_can_be_searched(tmp_path: Path) -> None:
    LexicalIndex.write([Document("a", "?", "!"), Document("b", "", "")], tmp_path)
    index = LexicalIndex(tmp_path)
    assert index.mention_scores(mention("x")).tolist() == [0, 0]
    assert index.named("page", mention("x", page="b")).tolist() == [1]


def test_a_world_without_entities_has_an_index(tmp_path: Path) -> None:
    LexicalIndex.write([], tmp_path)
    assert LexicalIndex(tmp_path).mention_scores(mention("x")).tolist() == []


def test_a_text_without_spaces_is_found_by_its_phrases(tmp_path: Path) -> None:
    LexicalIndex.write([Document("a", "東京", "日本の首都、東京"), Document("b", "大阪", "日本の都市")], tmp_path)
    assert best(LexicalIndex(tmp_path).mention_scores(mention("東京")), 2).tolist() == [0]


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        LexicalIndex.write(iter(DOCUMENTS), tmp_path / name)
    written = (path for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert sorted(path.relative_to(tmp_path / "one").as_posix() for path in written) == sorted(FILES)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_index_is_mapped_not_read(index: LexicalIndex) -> None:
    arrays = (index._words, index._lengths, *index._names, *(field._scores for field in index._bm25.values()))
    assert all(isinstance(values.base, np.memmap) for values in arrays)


def test_equal_scores_are_in_the_order_of_positions() -> None:
    scores = np.array([1, 3, 0, 3, 2, 3, -1], dtype=np.float32)
    assert best(scores, 2).tolist() == [1, 3]
    assert best(scores, 4).tolist() == [1, 3, 5, 4]
    assert best(scores, 100).tolist() == [1, 3, 5, 4, 0]


def test_many_names_are_kept_apart(tmp_path: Path) -> None:
    LexicalIndex.write([Document(f"page {n}", f"{n}", "", aliases=(f"{n}",)) for n in range(1000)], tmp_path)
    index = LexicalIndex(tmp_path)
    for kind in ("title", "alias"):
        assert [index.named(kind, mention(f"{n}")).tolist() for n in range(1000)] == [[n] for n in range(1000)]
    assert index.named("title", mention("1000")).tolist() == []
