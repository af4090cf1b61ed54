import json
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import pytest

from tests.support.data_set_files import DataSetFiles, document, mention
from zeshel_tasks.data import json_lines
from zeshel_tasks.data.zeshel import Dataset, Document, Mention, check_dataset
from zeshel_tasks.errors import DataError

TRAIN, DOCUMENTS = "mentions/train.json", "documents/aster.json"


def read_all(root: Path) -> None:
    dataset = Dataset(root)
    for world in dataset.worlds:
        list(dataset.documents(world))
    for split in dataset.splits():
        list(dataset.mentions(split))


def test_worlds_are_sorted_names_of_document_files(data_set: DataSetFiles) -> None:
    data_set.files = {"documents/zeta.json": [], "documents/b c.json": [], "documents/alpha.json": []}
    root = data_set.write()
    (root / "documents/._alpha.json").touch()
    (root / "documents/readme.txt").touch()
    assert Dataset(root).worlds == ("alpha", "b c", "zeta")


def test_documents_come_in_file_order(data_set: DataSetFiles) -> None:
    data_set.files[DOCUMENTS].reverse()
    documents = list(Dataset(data_set.write()).documents("aster"))
    assert [found.document_id for found in documents] == ["aster-2", "aster-1", "aster-0"]
    assert documents[2] == Document("aster-0", "Page 0", "The aster Page 0 tells of its Page 1 .")


EXTRA = {"url": "https://wiki.example/Page_0", "aliases": ["P0", "Page Zero"], "types": ["page"]}


def test_document_may_have_url_aliases_and_types(data_set: DataSetFiles) -> None:
    data_set.files[DOCUMENTS][0] |= EXTRA
    first, second, _ = Dataset(data_set.write()).documents("aster")
    assert (first.url, first.aliases, first.types) == (EXTRA["url"], ("P0", "Page Zero"), ("page",))
    assert (second.url, second.aliases, second.types) == (None, (), ())


def test_null_field_equals_missing_field(data_set: DataSetFiles) -> None:
    data_set.files[DOCUMENTS][0] |= dict.fromkeys(EXTRA)
    first = next(Dataset(data_set.write()).documents("aster"))
    assert (first.url, first.aliases, first.types) == (None, (), ())


def test_empty_strings_are_none_and_a_string_is_a_list_of_one(data_set: DataSetFiles) -> None:
    """As converters from CSV write them."""
    data_set.files[DOCUMENTS][0] |= {"url": "", "aliases": "", "types": [""]}
    data_set.files[DOCUMENTS][1] |= {"aliases": "P0", "types": ["", "page"]}
    first, second, _ = Dataset(data_set.write()).documents("aster")
    assert (first.url, first.aliases, first.types) == (None, (), ())
    assert (second.url, second.aliases, second.types) == (None, ("P0",), ("page",))


def test_unknown_fields_are_ignored(data_set: DataSetFiles) -> None:
    data_set.files[DOCUMENTS][0] |= {"wikidata": 42}
    assert check_dataset(data_set.write()).documents["aster"] == 3


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("url", 7, "wrong type (field 'url'); expected a string; got 7"),
        ("url", ["https://x"], "wrong type (field 'url')"),
        ("url", "\ud800", "half of a surrogate pair (field 'url')"),
        ("aliases", 7, "wrong type (field 'aliases'); expected a list of strings; got 7"),
        ("aliases", "\ud800", "half of a surrogate pair (field 'aliases')"),
        ("aliases", {"en": "P0"}, "wrong type (field 'aliases'); expected a list of strings"),
        ("aliases", ["P0", None], "wrong type (field 'aliases[1]'); expected a string; got None"),
        ("types", [["page"]], "wrong type (field 'types[0]'); expected a string"),
    ],
)
def test_optional_field_of_the_wrong_type_is_an_error(
    data_set: DataSetFiles, field: str, value: object, problem: str
) -> None:
    data_set.files[DOCUMENTS][1] |= EXTRA | {field: value}
    with pytest.raises(DataError) as raised:
        check_dataset(data_set.write())
    assert str(raised.value).startswith(f"{DOCUMENTS}:2: {problem}")


def test_valid_split_is_read_from_val_file(data_set: DataSetFiles) -> None:
    first = next(Dataset(data_set.write()).mentions("valid"))
    assert first == Mention("m-brine-0", "brine-0", "brine", 7, 8, "Page 1", "brine-1", "HIGH_OVERLAP", line=1)


def test_heldout_splits_are_read_if_present(data_set: DataSetFiles) -> None:
    assert "heldout_train_seen" not in Dataset(data_set.write()).splits()
    data_set.files["mentions/heldout_train_seen.json"] = [mention("aster", 2)]
    summary = check_dataset(data_set.write())
    assert summary.mentions["heldout_train_seen"] == {"aster": 1}


def test_only_line_feed_ends_a_line(data_set: DataSetFiles) -> None:
    root = data_set.write()
    text = "one\u2028two\u0085three"
    line = json.dumps(document("aster", 0) | {"text": text}, ensure_ascii=False)
    data_set.write_bytes(DOCUMENTS, f"{line}\r\n".encode())
    assert [found.text for found in Dataset(root).documents("aster")] == [text]


def test_last_line_without_line_feed_counts(data_set: DataSetFiles) -> None:
    root = data_set.write()
    path = root / DOCUMENTS
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert check_dataset(root).documents["aster"] == 3


def test_summary_counts_documents_and_mentions_by_world(data_set: DataSetFiles) -> None:
    data_set.files[TRAIN].append(mention("aster", 2))
    summary = check_dataset(data_set.write())
    assert summary.documents == {"aster": 3, "brine": 3, "cinder": 3}
    assert summary.mentions == {"train": {"aster": 3}, "valid": {"brine": 2}, "test": {"cinder": 2}}
    assert summary.bad_mentions == {"train": 0, "valid": 0, "test": 0}


def test_golden_data_set_is_valid(golden: Path) -> None:
    summary = check_dataset(golden / "raw")
    assert set(summary.documents.values()) == {80}
    assert {split: sum(worlds.values()) for split, worlds in summary.mentions.items()} == {
        "train": 120,
        "valid": 60,
        "test": 60,
    }


@pytest.mark.parametrize("file", [DOCUMENTS, TRAIN])
@pytest.mark.parametrize(
    ("bad_line", "problem"),
    [
        (b'{"document_id": "x", ', "broken JSON"),
        (b"[" * 100_000, "broken JSON"),
        (b'{"start_index": ' + b"1" * 5000 + b"}", "broken JSON"),
        (b'["a"]', "not an object"),
        (b"", "blank line"),
        (b"  ", "blank line"),
        (b'{"title": "\xff"}', "not UTF-8"),
    ],
    ids=["cut", "deep", "digits", "list", "empty", "spaces", "bytes"],
)
def test_line_without_an_object_is_refused_with_file_and_line(
    data_set: DataSetFiles, file: str, bad_line: bytes, problem: str
) -> None:
    root = data_set.write()
    lines = (root / file).read_bytes().splitlines()
    data_set.write_bytes(file, b"\n".join([lines[0], bad_line, *lines[1:]]) + b"\n")
    with pytest.raises(DataError, match=f"^{file}:2: {problem}") as error:
        read_all(root)
    assert error.value.line == 2


@pytest.mark.parametrize("value", [None, 7, ["a"], "missing", "half \ud800"], ids=repr)
@pytest.mark.parametrize(
    ("file", "field"),
    [
        *((DOCUMENTS, field) for field in document("aster", 0)),
        *((TRAIN, field) for field in ("mention_id", "corpus", "text", "label_document_id", "category")),
    ],
)
def test_missing_or_mistyped_text_field_is_refused(data_set: DataSetFiles, file: str, field: str, value: Any) -> None:
    broken = data_set.files[file][1]
    broken[field] = value
    if value == "missing":
        del broken[field]
    with pytest.raises(DataError, match=f"^{file}:2: ") as error:
        read_all(data_set.write())
    assert error.value.field == field
    assert error.value.expected


@pytest.mark.parametrize("value", [None, "7", 7.0, True, -1], ids=repr)
@pytest.mark.parametrize("field", ["start_index", "end_index"])
def test_index_must_be_non_negative_integer(data_set: DataSetFiles, field: str, value: Any) -> None:
    data_set.files[TRAIN][1][field] = value
    with pytest.raises(DataError, match=f"^{TRAIN}:2: ") as error:
        read_all(data_set.write())
    assert (error.value.field, error.value.got) == (field, value)


@pytest.mark.parametrize(
    ("file", "field"), [(DOCUMENTS, "document_id"), (TRAIN, "mention_id"), (TRAIN, "text"), (TRAIN, "category")]
)
def test_empty_name_is_refused(data_set: DataSetFiles, file: str, field: str) -> None:
    data_set.files[file][0][field] = ""
    with pytest.raises(DataError, match=f"^{file}:1: empty"):
        read_all(data_set.write())


@pytest.mark.parametrize(("file", "field"), [(DOCUMENTS, "document_id"), (TRAIN, "mention_id")])
def test_duplicate_id_is_refused_with_both_lines(data_set: DataSetFiles, file: str, field: str) -> None:
    lines = data_set.files[file]
    lines.append(lines[0])
    with pytest.raises(DataError, match=rf"^{file}:{len(lines)}: duplicate .*{field}.*first on line 1$"):
        read_all(data_set.write())


def test_mention_of_world_without_documents_is_refused(data_set: DataSetFiles) -> None:
    data_set.files[TRAIN][1]["corpus"] = "atlantis"
    with pytest.raises(DataError, match=f"^{TRAIN}:2: unknown world .*one of aster, brine, cinder; got atlantis$"):
        read_all(data_set.write())


@pytest.mark.parametrize("in_files", ["NFC", "NFD"])
@pytest.mark.parametrize("in_mentions", ["NFC", "NFD"])
def test_name_of_world_may_have_either_normal_form(
    data_set: DataSetFiles, in_files: Literal["NFC", "NFD"], in_mentions: Literal["NFC", "NFD"]
) -> None:
    name = normalize(in_files, "café")
    data_set.files[f"documents/{name}.json"] = data_set.files.pop(DOCUMENTS)
    for line in data_set.files[TRAIN]:
        line["corpus"] = normalize(in_mentions, "café")
    assert {found.world for found in Dataset(data_set.write()).mentions("train")} == {name}


@pytest.mark.parametrize("character", ["\x00", "\n", "\x1b", "\x85", "\u2028"])
def test_category_with_a_control_character_is_refused(data_set: DataSetFiles, character: str) -> None:
    """PostgreSQL, in which Airflow keeps the metrics by category, does not take NUL."""
    data_set.files[TRAIN][1]["category"] = f"LOW{character}OVERLAP"
    with pytest.raises(DataError, match=rf"^{TRAIN}:2: control character \(field 'category'\)") as raised:
        read_all(data_set.write())
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("file", [DOCUMENTS, TRAIN])
def test_byte_order_mark_is_refused(data_set: DataSetFiles, file: str) -> None:
    root = data_set.write()
    data_set.write_bytes(file, b"\xef\xbb\xbf" + (root / file).read_bytes())
    with pytest.raises(DataError, match=f"^{file}:1: byte order mark"):
        check_dataset(root)


@pytest.mark.parametrize("file", [DOCUMENTS, TRAIN, "mentions/val.json"])
def test_empty_file_is_refused(data_set: DataSetFiles, file: str) -> None:
    root = data_set.write()
    data_set.write_bytes(file, b"")
    with pytest.raises(DataError, match=f"^{file}: empty file"):
        check_dataset(root)


def test_missing_split_is_refused(data_set: DataSetFiles) -> None:
    root = data_set.write()
    (root / "mentions/val.json").unlink()
    with pytest.raises(DataError, match=r"^mentions/val.json: no such file"):
        check_dataset(root)


def test_folder_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"documents/<world>\.json"):
        Dataset(tmp_path)


def test_overlong_line_is_refused(data_set: DataSetFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 1000)
    data_set.files[DOCUMENTS][1]["text"] = "x" * 1000
    with pytest.raises(DataError, match=f"^{DOCUMENTS}:2: line too long"):
        check_dataset(data_set.write())


def test_world_in_two_splits_is_refused(data_set: DataSetFiles) -> None:
    data_set.files["mentions/test.json"].append(mention("aster", 2))
    with pytest.raises(DataError, match=r"^mentions/test.json: the same world in two splits .*got aster$"):
        check_dataset(data_set.write())


def test_bad_mention_lines_are_counted_and_logged(data_set: DataSetFiles, caplog: pytest.LogCaptureFixture) -> None:
    root = data_set.write()
    good = (root / TRAIN).read_text().splitlines()
    data_set.write_lines(TRAIN, [good[0], "{", good[1], good[0]])
    summary = check_dataset(root)
    assert summary.mentions["train"] == {"aster": 2}
    assert summary.bad_mentions["train"] == 2
    assert f"{TRAIN}:2: broken JSON" in caplog.text
    assert f"{TRAIN}:4: duplicate" in caplog.text


def test_split_of_only_bad_lines_is_refused(data_set: DataSetFiles) -> None:
    root = data_set.write()
    data_set.write_lines(TRAIN, ["{", "{"])
    with pytest.raises(DataError, match=f"^{TRAIN}:1: broken JSON"):
        check_dataset(root)
