"""The counted words of parts of a world give the index of the world, which is that of bm25s."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

import bm25s
import numpy as np
import pytest

from tests.support.rounds import rounds
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.linking import word_counts
from zeshel_tasks.linking.lexical import FILES, LexicalIndex
from zeshel_tasks.linking.mention_texts import MentionText
from zeshel_tasks.linking.word_counts import (
    FIELDS,
    LEAD_WORDS,
    Field,
    Part,
    count_words,
    pack,
    unpack,
    write_counts,
)
from zeshel_tasks.linking.words import words

WORDS = [f"w{number}" for number in range(40)]


def documents(seed: int, count: int) -> list[Document]:
    """Entities of which some have no words, and some share names."""
    dice = random.Random(seed)

    def text(most: int) -> str:
        return " ".join(dice.choices(WORDS, k=dice.randrange(most)))

    return [
        Document(f"{seed}-{number}", text(3), text(60), aliases=tuple(text(3) for _ in range(dice.randrange(3))))
        for number in range(count)
    ]


@pytest.fixture(autouse=True, params=[(70, 90), (2**21, 2**21)], ids=["little_at_once", "all_at_once"])
def _at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_counts, "_WORDS_AT_ONCE", request.param[0])
    monkeypatch.setattr(word_counts, "_POSTINGS_AT_ONCE", request.param[1])


def counted(found: Sequence[Document], folder: Path) -> Path:
    """Writes the words of entities into the files of a folder."""
    write_counts(count_words(found, folder / "blocks"), folder)
    return folder


def assert_same_index(one: Path, other: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def of_field(document: Document, field: Field) -> list[str]:
    names, text = words(" ".join((document.title, *document.aliases))), words(document.text)
    return {"everything": names * 3 + text, "names": names, "lead": text[:LEAD_WORDS]}[field]


@pytest.mark.parametrize("field", FIELDS)
def test_scores_are_those_of_bm25s_to_the_last_bit(field: Field, tmp_path: Path) -> None:
    found = documents(1, 150)
    LexicalIndex.write(found, tmp_path)
    index, vocabulary = LexicalIndex(tmp_path), {"": 0}
    rows = [[vocabulary.setdefault(word, len(vocabulary)) for word in of_field(one, field) or [""]] for one in found]
    expected = bm25s.BM25(k1=1.5, b=0.75, method="lucene", backend="numpy", csc_backend="numpy")
    expected.index((rows, vocabulary), create_empty_token=False, show_progress=False)
    for query in [[word] for word in WORDS] + [["w1", "w2", "w1"], WORDS]:
        scores = index.mention_scores(MentionText(" ".join(query), "", ""), field)
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores, expected.get_scores_from_ids([vocabulary[word] for word in query]))


def changed(seed: int, folder: Path) -> tuple[list[Part], list[Document]]:
    """Parts of random sizes, of which random entities are live; and the live entities."""
    dice = random.Random(seed)
    parts, live = list[Part](), list[Document]()
    for number, size in enumerate(dice.choices([1, 2, 30], k=5)):
        found, share = documents(10 * seed + number, size), dice.choice([0, 0.7, 1])
        flags = [dice.random() < share for _ in found]
        parts.append(Part(counted(found, folder / str(number)), np.array(flags)))
        live += [one for one, is_live in zip(found, flags, strict=True) if is_live]
    return parts, live


@pytest.mark.parametrize("seed", range(rounds(4, 50)))
def test_parts_without_removed_entities_give_the_index_of_the_others(seed: int, tmp_path: Path) -> None:
    parts, live = changed(seed, tmp_path)
    LexicalIndex.write_merged(parts, tmp_path / "merged")
    LexicalIndex.write(live, tmp_path / "whole")
    assert_same_index(tmp_path / "merged", tmp_path / "whole")
    write_counts(parts, tmp_path / "joined")
    whole = Part(tmp_path / "joined", np.ones(len(live), dtype=np.bool_))
    LexicalIndex.write_merged([whole], tmp_path / "again")
    assert_same_index(tmp_path / "again", tmp_path / "whole")


@pytest.fixture
def _few_descriptors() -> Iterator[None]:
    """Lets this process open 24 more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    free = [number for number in range(len(used) + 25) if number not in used]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[24], hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_few_descriptors")
def test_there_may_be_more_parts_than_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = documents(1, 30)
    LexicalIndex.write(found, tmp_path / "whole")
    monkeypatch.setattr(word_counts, "_WORDS_AT_ONCE", 1)
    parts = count_words(found, tmp_path / "blocks")
    assert len(parts) > 24
    LexicalIndex.write_merged(parts, tmp_path / "merged")
    assert_same_index(tmp_path / "merged", tmp_path / "whole")
    write_counts(parts, tmp_path / "joined")


def test_packed_words_are_the_same(tmp_path: Path) -> None:
    counted(documents(1, 20), tmp_path / "counted")
    pack(tmp_path / "counted", tmp_path / "packed")
    unpack(tmp_path / "packed", tmp_path / "unpacked")
    pack(tmp_path / "unpacked", tmp_path / "again")
    assert (tmp_path / "packed").read_bytes() == (tmp_path / "again").read_bytes()
    for name in word_counts.FILES:
        assert (tmp_path / "counted" / name).read_bytes() == (tmp_path / "unpacked" / name).read_bytes()


def test_a_word_may_occur_often(tmp_path: Path) -> None:
    often = [Document(str(number), "title", "word " * number) for number in (0, 300, 70_000, 1)]
    LexicalIndex.write(often, tmp_path)
    index = LexicalIndex(tmp_path)
    assert index.text_words(np.arange(4)).tolist() == [0, 300, 4_000, 1]  # of the first 20,000 characters
    scores = index.mention_scores(MentionText("word", "", ""))
    assert 0 == scores[0] < scores[3] < scores[1] < scores[2]
