"""The formats of texts with mentions."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.importing.conftest import ImportMentions, lines_of, linked
from tests.support.faults import Fault
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA

TEXT = "😀 Vask, in Orlen"
BOTH = [("Vask", "7"), ("Orlen", "8")]


def blink(label: int, title: str = "", **more: Any) -> dict[str, Any]:
    return {"context_left": "The ferry", "mention": "Vask", "context_right": "left.", "label_id": label} | (
        {"label_title": title} if title else {} | more
    )


def task(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"text": TEXT}, "annotations": [{"result": list(results)}]} | more


def region(name: str, start: int, end: int, text: str, label: str) -> dict[str, Any]:
    value = {"start": start, "end": end, "text": text, "labels": [label]}
    return {"id": name, "type": "labels", "value": value}


def about(name: str, kind: str, key: str, value: Any) -> dict[str, Any]:
    return {"id": name, "type": kind, "value": {key: value}}


AIDA = (
    "-DOCSTART- (1 EU)\n\nVask\tB\tVask\tVask\thttps://x/Vask\t7\n,\nin\n"
    "Orlen\tB\tOrlen (\tOrlen_(river)\thttps://x\t9\n(\tI\tOrlen (\tOrlen_(river)\thttps://x\t9\n.\n\n"
    "Bonn\tB\tBonn\t--NME--\n\n"
)

CASES: dict[str, tuple[str, str | list[Any], tuple[str, ...], list[tuple[str, str | None]]]] = {
    "plain": (
        "jsonl",
        [{"text": TEXT, "spans": [{"start": 2, "end": 6, "entity": 7}, {"start": 11, "end": 16, "entity": "8"}]}],
        (),
        BOTH,
    ),
    "plain, utf16": (
        "jsonl",
        [{"text": TEXT, "spans": [{"start": 3, "end": 7, "entity": "7"}]}],
        ("--offsets", "utf16"),
        BOTH[:1],
    ),
    "plain, bytes": (
        "jsonl",
        [{"text": TEXT, "spans": [{"start": 5, "end": 9, "entity": "7"}]}],
        ("--offsets", "bytes"),
        BOTH[:1],
    ),
    "plain, title": (
        "jsonl",
        [{"text": TEXT, "spans": [{"start": 2, "end": 6, "entity": "Vask"}]}],
        ("--match", "title"),
        BOTH[:1],
    ),
    "plain, url": (
        "jsonl",
        [{"text": TEXT, "spans": [{"start": 2, "end": 6, "entity": "https://x/Vask"}]}],
        ("--match", "url"),
        BOTH[:1],
    ),
    "plain, nil": (
        "jsonl",
        [
            {"text": TEXT, "spans": [{"start": 2, "end": 6, "entity": None}, {"start": 8, "end": 10, "entity": -1}]},
            {"text": TEXT, "spans": [{"start": 11, "end": 16, "entity": "8"}]},
        ],
        (),
        [("Orlen", "8"), ("Vask", None), ("in", None)],
    ),
    "blink": ("blink", [blink(0, "vask"), blink(1), blink(-1)], (), [("Vask", "7"), ("Vask", "8"), ("Vask", None)]),
    "blink, title": ("blink", [blink(5, "Vask")], ("--gold", "label_title"), BOTH[:1]),
    "kilt": (
        "kilt",
        [
            {
                "id": "k",
                "input": "A [START_ENT] Vask [END_ENT] , b",
                "output": [{"answer": "Vask", "provenance": [{"wikipedia_id": "7", "title": "Vask"}]}],
            }
        ],
        (),
        BOTH[:1],
    ),
    "kilt, answer": (
        "kilt",
        [{"input": "[START_ENT] Vask [END_ENT]", "output": [{"answer": "Vask"}]}],
        ("--gold", "answer"),
        BOTH[:1],
    ),
    "aida": ("aida", AIDA, (), [("Vask", "7"), ("Orlen (", "9"), ("Bonn", None)]),
    "aida, id": ("aida", AIDA, ("--gold", "wikipedia_id"), [("Vask", "7"), ("Orlen (", "9"), ("Bonn", None)]),
    "doccano": ("doccano", [{"id": 3, "text": TEXT, "label": [[3, 7, "7"], [12, 17, "8"]]}], (), BOTH),
    "doccano, entities": (
        "doccano",
        [{"text": TEXT, "entities": [{"id": 1, "start_offset": 2, "end_offset": 6, "label": "7"}]}],
        ("--offsets", "codepoints"),
        BOTH[:1],
    ),
    "label studio": (
        "label-studio",
        json.dumps([task(region("a", 2, 6, "Vask", "7"), region("b", 11, 16, "Orlen", "8"))]),
        (),
        BOTH,
    ),
    "label studio, text": (
        "label-studio",
        json.dumps([task(region("a", 2, 6, "Vask", "x"), about("a", "textarea", "text", ["7"]))]),
        ("--gold", "textarea"),
        BOTH[:1],
    ),
    "label studio, taxonomy": (
        "label-studio",
        json.dumps([task(region("a", 2, 6, "Vask", "x"), about("a", "taxonomy", "taxonomy", [["ship", "7"]]))]),
        ("--gold", "taxonomy"),
        BOTH[:1],
    ),
    "prodigy": (
        "prodigy",
        [
            {
                "text": TEXT,
                "spans": [{"start": 2, "end": 6, "label": "SHIP", "kb_id": "7", "text": "Vask"}],
                "answer": "accept",
            }
        ],
        (),
        BOTH[:1],
    ),
    "prodigy, choice": (
        "prodigy",
        [{"text": TEXT, "spans": [{"start": 2, "end": 6}], "accept": [label]} for label in ("7", "NIL_otherLink")],
        ("--gold", "accept"),
        [("Vask", "7"), ("Vask", None)],
    ),
}


@pytest.mark.parametrize(("form", "content", "flags", "expected"), CASES.values(), ids=CASES)
def test_mentions_of_a_format(
    form: str,
    content: Any,
    flags: tuple[str, ...],
    expected: list[tuple[str, str | None]],
    import_mentions: ImportMentions,
    tmp_path: Path,
) -> None:
    assert import_mentions(content, form, *flags) == 0
    assert linked(tmp_path / "data") == expected


def test_mentions_of_brat(import_mentions: ImportMentions, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"Vask\r\nin Orlen")
    annotations = (
        "T1\tShip 0 4\tVask\nN1\tReference T1 KB:7\tVask\n#1\tAnnotatorNotes T1\tx\n"
        "T2\tTown 9 14\tOrlen\nN2\tReference T2 KB:8\tOrlen\n"
    )
    assert import_mentions(annotations, "brat", name="a.ann") == 0
    assert linked(tmp_path / "data") == BOTH
    context = {"document_id": "a", "text": "Vask in Orlen", "original": "Vask\r\nin Orlen"}
    assert lines_of(tmp_path / "data" / "contexts" / "towns.json") == [context]


def test_splits_of_aida_are_those_of_its_documents(import_mentions: ImportMentions, tmp_path: Path) -> None:
    documents = "".join(f"-DOCSTART- ({name} X)\nVask\tB\tVask\tVask\n" for name in ("1", "947testa", "1163testb"))
    assert import_mentions(documents, "aida") == 0
    worlds = {
        name: [line["corpus"] for line in lines_of(tmp_path / "data" / "mentions" / name)]
        for name in ("train.json", "val.json", "test.json")
    }
    assert worlds == {"train.json": ["towns"], "val.json": ["towns-valid"], "test.json": ["towns-test"]}


def test_rejected_texts_are_counted(import_mentions: ImportMentions, capsys: pytest.CaptureFixture[str]) -> None:
    span = {"start": 2, "end": 6, "kb_id": "7"}
    assert (
        import_mentions(
            [{"text": TEXT, "spans": [span], "answer": answer} for answer in ("accept", "reject", "reject", "ignore")],
            "prodigy",
        )
        == 0
    )
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "left out 2 texts: answer is reject",
        "left out 1 texts: answer is ignore",
    ]


def test_unknown_entities_and_missing_labels_may_mean_nil(import_mentions: ImportMentions, tmp_path: Path) -> None:
    spans = [{"start": 2, "end": 6, "entity": "77"}, {"start": 11, "end": 16}]
    assert (
        import_mentions([{"text": TEXT, "spans": spans}], "jsonl", "--nil-if-unknown") == EXIT_DATA
    )  # nothing else is left
    spans.append({"start": 8, "end": 10, "entity": "7"})
    assert import_mentions([{"text": TEXT, "spans": spans}], "jsonl", "--nil-if-unknown") == 0
    assert linked(tmp_path / "data") == [("in", "7"), ("Vask", None), ("Orlen", None)]


def spans(*found: dict[str, Any], **more: Any) -> list[Any]:
    return [{"text": TEXT, "spans": [{"start": 2, "end": 6, "entity": "7"} | span for span in found]} | more]


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        (
            "jsonl",
            spans({"end": 99}),
            "m.jsonl:1: wrong span (field 'spans[0]'); expected 0 <= start < end <= 16, the length of the text; got",
        ),
        ("jsonl", spans({"start": 6}), "wrong span (field 'spans[0]')"),
        ("jsonl", spans({"start": -1}), "negative index (field 'spans[0].start')"),
        ("jsonl", spans({"start": 1.5}), "wrong type (field 'spans[0].start'); expected an integer; got 1.5"),
        ("jsonl", spans({"start": 1, "end": 2}), "empty mention (field 'spans[0]'); expected more than white space"),
        (
            "jsonl",
            spans({"text": "Orlen"}),
            "another text (field 'spans[0]'); expected 'Orlen' from 2 to 6 (see --offsets); got 'Vask'",
        ),
        ("jsonl", spans({}, {"entity": "8"}), "duplicate (field 'spans[1]'); expected each span once; got 2 to 6"),
        (
            "jsonl",
            spans({"entity": "77"}),
            "unknown entity (field 'spans[0]'); expected the id of an entity of towns; got 77",
        ),
        ("jsonl", spans({"entity": ["7"]}), "wrong type (field 'spans[0].entity')"),
        (
            "jsonl",
            [{"text": TEXT, "spans": [{"start": 2, "end": 6}]}],
            "no label (field 'spans[0]'); expected an entity, or --nil-if-unknown",
        ),
        ("jsonl", [{"text": TEXT}], "missing field (field 'spans'); expected a list; got fields text"),
        ("jsonl", [{"text": TEXT, "spans": [7]}], "wrong type (field 'spans[0]'); expected an object; got 7"),
        (
            "jsonl",
            spans({}, world="none"),
            "unknown world (field 'world'); expected one of towns, or --world; got none",
        ),
        ("jsonl", spans({}, split="trian"), "unknown split (field 'split'); expected one of train"),
        (
            "jsonl",
            spans({}, id="7"),
            "duplicate (field 'id'); expected an id that no entity and no other text of towns has; got 7",
        ),
        ("jsonl", spans({}, id="a") + spans({}, id="a"), "m.jsonl:2: duplicate (field 'id')"),
        ("jsonl", '{"text": "\\ud83d", "spans": []}', "half of a surrogate pair (field 'text')"),
        ("blink", [blink(9)], "unknown entity (field 'label_id'); expected the position of an entity of towns; got 9"),
        (
            "blink",
            [blink(1, "Vask")],
            "another entity (field 'label_id'); expected 'Vask', which the mention names; got 'Orlen'",
        ),
        ("kilt", [{"input": "no mention", "output": []}], "no mention (field 'input'); expected one [START_ENT]"),
        ("kilt", [{"input": "[START_ENT] Vask [END_ENT]", "output": [{"answer": "x"}]}], "no label (field 'output')"),
        (
            "kilt",
            [
                {
                    "input": "[START_ENT] V [END_ENT]",
                    "output": [{"provenance": [{"wikipedia_id": "7"}, {"wikipedia_id": "8"}]}],
                }
            ],
            "several labels (field 'output'); expected one wikipedia_id; got 7, 8",
        ),
        ("aida", "Vask\tX\n", "m.jsonl:1: unknown tag (field 'column 2'); expected B, I or nothing; got X"),
        ("aida", "a\n\nVask\tI\tVask\tVask\n", "m.jsonl:3: a mention does not begin (field 'column 2')"),
        (
            "aida",
            "a\nBonn\tB\tBonn\tBonn\n",
            "m.jsonl:2: unknown entity (field 'column 4'); expected the title of an entity of towns; got Bonn",
        ),
        (
            "doccano",
            [{"text": TEXT, "label": [[1, 7, "7"]]}],
            "wrong span (field 'label[0]'); expected offsets between characters; 1 is within one",
        ),
        (
            "label-studio",
            json.dumps([task(region("a", 3, 7, "Vask", "7"))]),
            "m.jsonl[0]:1: another text (field 'labels'); expected 'Vask' from 3 to 7 (see --offsets)",
        ),
        (
            "label-studio",
            json.dumps([task(annotations=[{"result": []}, {"result": []}])]),
            "several annotations (field 'annotations')",
        ),
        ("label-studio", json.dumps([{"text": TEXT}]), "missing field (field 'annotations')"),
    ],
)
def test_mention_that_cannot_be_used(
    form: str,
    content: Any,
    message: str,
    import_mentions: ImportMentions,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: Fault,
) -> None:
    fault("input: mention to import that cannot be used")
    assert import_mentions(content, form) == EXIT_DATA
    assert message in capsys.readouterr().out
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (
            "T1\tShip 0 2;3 4\tVask\n",
            "a.ann:1: not one span; expected type, start and end: ZESHEL has no mentions in pieces",
        ),
        ("T1\tShip 0 4\tVask\n", "a.ann:1: no label (field 'reference')"),
        ("T1 Ship 0 4\n", "a.ann:1: broken line"),
    ],
)
def test_line_of_brat_that_cannot_be_used(
    annotations: str, message: str, import_mentions: ImportMentions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("Vask")
    assert import_mentions(annotations, "brat", name="a.ann") == EXIT_DATA
    assert message in capsys.readouterr().out


def test_annotations_of_brat_without_text(import_mentions: ImportMentions, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_mentions("T1\tShip 0 4\tVask\n", "brat", name="b.ann") == EXIT_DATA
    assert "no text; expected x.ann with x.txt beside it, both local" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("form", "flags", "message"),
    [
        (
            "blink",
            ("--offsets", "utf16"),
            "--offsets: expected none with --format blink, which has no offsets, got 'utf16'",
        ),
        ("kilt", ("--gold", "x"), "--gold: expected one of wikipedia_id, title, answer with --format kilt, got 'x'"),
        ("jsonl", ("--world", "x"), "--world: expected one of towns, got 'x'"),
        ("jsonl", ("--shares", "train=0.5"), "expected shares above 0 that are 1 together"),
        ("jsonl", ("--shares", "train=x,test=1"), "expected shares above 0 that are 1 together"),
        ("jsonl", ("--shares", "valid=0.5,heldout_train_seen=0.5"), "expected a share of train, from which"),
    ],
)
def test_setting_that_does_not_suit_the_format(
    form: str, flags: tuple[str, ...], message: str, import_mentions: ImportMentions, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_mentions(spans({}), form, *flags) == EXIT_CONFIG
    assert message in capsys.readouterr().out
