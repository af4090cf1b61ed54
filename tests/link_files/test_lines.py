"""What an input line may be, and what is refused with its line and field."""

import json
from typing import Any

import pytest

from zeshel_tasks.config.link import Offsets
from zeshel_tasks.data.raw_text import Span
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.errors import DataError
from zeshel_tasks.link_files.lines import GivenMention, LineReader

PAGE = Document("bat", "Batman", "Batman drives the Batmobile through Gotham City .")
TEXT = "The 🦇 Batmobile\r\nleft."


def read(values: Any, offsets: Offsets = "code_points") -> list[GivenMention]:
    reader = LineReader("in.jsonl", 3, offsets, tokenized=False, find_page={"bat": PAGE}.get)
    return reader.read(values if isinstance(values, bytes) else json.dumps(values).encode(), 7).mentions


def span(start: int, end: int, **more: Any) -> dict[str, Any]:
    return {"id": "a", "text": TEXT, "mentions": [{"start": start, "end": end, **more}]}


def test_offsets_are_of_characters() -> None:
    for field in ("mentions", "spans"):
        (found,) = read({"id": "a", "text": TEXT, field: [{"start": 6, "end": 15, "text": "Batmobile"}]})
        assert (found.mention.mention, found.text, found.place) == ("Batmobile", "Batmobile", (6, 15))
        assert (found.mention.context_left, found.mention.context_right) == ("The 🦇", "left .")
        assert found.mention.context_document_id == "a"


def test_offsets_may_be_of_utf16_code_units() -> None:
    (found,) = read(span(7, 16), "utf16")
    assert (found.text, found.place) == ("Batmobile", (7, 16))
    (marked,) = read({"text": "🦇 [[Batmobile]]"}, "utf16")
    assert marked.place == (5, 14)


def test_mentions_may_overlap_and_there_may_be_none() -> None:
    both = read({"text": TEXT, "mentions": [{"start": 6, "end": 15}, {"start": 0, "end": 15}]})
    assert [found.text for found in both] == ["Batmobile", "The 🦇 Batmobile"]
    assert read({"text": TEXT, "mentions": []}) == read({"text": TEXT}) == []


def test_a_mention_in_brackets_lies_between_them() -> None:
    (found,) = read({"text": "The [[Bat-mobile]] left", "context_document_id": "bat", "id": 3})
    assert (found.mention.mention, found.text, found.place) == ("Bat - mobile", "Bat-mobile", (6, 16))
    assert found.mention.context_document_id == "bat"


def test_mentions_of_a_text_without_a_list_may_be_found() -> None:
    def find(text: str) -> list[Span]:
        return [Span(text.index("Batmobile"), text.index("Batmobile") + 9)] if "Batmobile" in text else []

    def read(values: Any, offsets: Offsets) -> list[GivenMention]:
        reader = LineReader("in.jsonl", 3, offsets, tokenized=False, find_page={}.get, find_mentions=find)
        return reader.read(json.dumps(values).encode(), 7).mentions

    (found,) = read({"id": "a", "text": "[[The]] 🦇 Batmobile left"}, "code_points")
    assert (found.text, found.place, found.mention.context_right) == ("Batmobile", (10, 19), "left")
    assert read({"text": "🦇 Batmobile"}, "utf16")[0].place == (3, 12)
    assert read({"text": "Batmobile", "mentions": []}, "code_points") == read({"text": "car"}, "utf16") == []


def test_blinks_form_is_one_mention() -> None:
    (found,) = read({"context_left": "the", "mention": "batmobile", "context_right": "left", "label_id": 3})
    assert found.mention == ("the", "batmobile", "left", "")
    assert found.place is None


def test_zeshels_form_is_a_mention_on_a_page_of_the_knowledge_base() -> None:
    line = {"context_document_id": "bat", "start_index": 3, "end_index": 3, "text": "batmobile", "mention_id": "1"}
    (found,) = read(line)
    assert found.mention == ("Batman drives the", "Batmobile", "through Gotham City", "bat")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (b"{", "in.jsonl:7: broken JSON"),
        (b"\n", "in.jsonl:7: blank line"),
        (b"[1]", "in.jsonl:7: not an object"),
        (b'{"text": "\xff"}', "in.jsonl:7: not UTF-8"),
        (b'{"text": "a", "text": "b"}', "field 'text' twice"),
        (b'{"text": "\\ud83d"}', r"in.jsonl:7: half of a surrogate pair \(field 'text'\)"),
        ({"title": "a"}, "no text; expected text, or context_left.*; got fields title"),
        ({}, "no text; .* got fields none"),
        ({"text": 3, "mentions": []}, r"wrong type \(field 'text'\)"),
        ({"text": "a", "mentions": {}}, r"wrong type \(field 'mentions'\); expected a list of mentions"),
        ({"text": "a", "mentions": [], "spans": []}, r"two lists of mentions \(field 'spans'\)"),
        ({"text": "a", "mentions": [3]}, r"\(field 'mentions\[0\]'\); expected an object with start and end"),
        ({"text": "a", "spans": [{"start": 0}]}, r"missing field \(field 'spans\[0\].end'\)"),
        ({"text": "a", "mentions": [{"start": 0, "end": 1.0}]}, r"wrong type \(field 'mentions\[0\].end'\)"),
        (span(-1, 3), r"negative index \(field 'mentions\[0\].start'\)"),
        (span(3, 3), r"empty mention \(field 'mentions\[0\].end'\); expected more than the start, 3"),
        (span(6, 2), r"empty mention \(field 'mentions\[0\].end'\)"),
        (span(3, 4), r"empty mention \(field 'mentions\[0\]'\); expected a mention that is not only white space"),
        (span(6, 99), r"wrong offset \(field 'mentions\[0\].end'\); expected at most 22 code points; got 99"),
        (span(16, 21), r"wrong offset .* expected none between carriage return and line feed; got 16"),
        (span(6, 15, text="Batmobil"), r"text differs from its offsets \(field 'mentions\[0\].text'\)"),
        ({"text": "a [[b"}, r"broken marks \(field 'text'\).* without a .* at character 2"),
        ({"text": "a [[ ]]"}, r"empty mention \(field 'text'\)"),
        ({"context_left": "a", "mention": "b"}, r"missing field \(field 'context_right'\)"),
        ({"context_left": "a", "mention": "", "context_right": "b"}, r"empty mention \(field 'mention'\)"),
        ({"context_document_id": "x", "start_index": 0, "end_index": 0}, r"unknown document \(field 'context_doc"),
        ({"context_document_id": "bat", "start_index": 2, "end_index": 8}, r"span out of range \(field 'end_index'\)"),
        (
            {"context_document_id": "bat", "start_index": 0, "end_index": 0, "text": "Robin"},
            r"text differs from its tokens \(field 'text'\); expected 'Batman'; got 'Robin'",
        ),
        ({"text": "a", "links": []}, r"taken field \(field 'links'\)"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place(values: Any, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as refused:
        read(values)
    assert str(refused.value).startswith("in.jsonl:7: ")


def test_an_offset_within_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(DataError, match=r"in.jsonl:7: wrong offset \(field 'mentions\[0\].start'\).*surrogate pair"):
        read(span(5, 16), "utf16")
    with pytest.raises(DataError, match="expected at most 23 UTF-16 code units; got 24"):
        read(span(7, 24), "utf16")
