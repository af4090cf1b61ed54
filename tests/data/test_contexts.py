"""Pages with mentions that are no entities: ``contexts/<world>.json``."""

import json
from pathlib import Path

import pytest

from tests.support.data_set_files import DataSetFiles
from zeshel_tasks.config.data import ConvertConfig, DownloadConfig
from zeshel_tasks.data.blink_format import convert_split
from zeshel_tasks.data.zeshel import Dataset, check_dataset
from zeshel_tasks.download.merge import Part, merge
from zeshel_tasks.download.sources import identities, obtain
from zeshel_tasks.errors import DataError

PAGE = "Here the old Page 2 is named ."


@pytest.fixture
def with_context(data_set: DataSetFiles) -> DataSetFiles:
    """The second mention of aster is in a page that is no entity."""
    data_set.files["contexts/aster.json"] = [{"document_id": "note", "text": PAGE, "original": "Here\u2026"}]
    data_set.files["mentions/train.json"][1] |= {"context_document_id": "note", "start_index": 3, "end_index": 4}
    return data_set


def test_context_of_a_mention_is_cut_from_a_page_that_is_no_entity(with_context: DataSetFiles, tmp_path: Path) -> None:
    dataset = Dataset(with_context.write())
    assert check_dataset(dataset.root).documents["aster"] == 3
    convert_split(dataset, "train", tmp_path / "out", ConvertConfig())
    line = json.loads((tmp_path / "out" / "train.jsonl").read_text().splitlines()[1])
    assert (line["context_left"], line["mention"], line["label_title"]) == ("here the old", "page 2", "Page 2")


def test_page_that_is_no_entity_is_no_gold(with_context: DataSetFiles, tmp_path: Path) -> None:
    with_context.files["mentions/train.json"][0]["label_document_id"] = "note"
    with pytest.raises(DataError, match=r"unknown document .*label_document_id"):
        convert_split(Dataset(with_context.write()), "train", tmp_path / "out", ConvertConfig())


def test_page_that_is_both_is_refused(with_context: DataSetFiles, tmp_path: Path) -> None:
    with_context.files["contexts/aster.json"][0]["document_id"] = "aster-1"
    with pytest.raises(DataError, match=r"contexts/aster.json: both a document and a context; .*; got aster-1"):
        convert_split(Dataset(with_context.write()), "train", tmp_path / "out", ConvertConfig())


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("aster", {"document_id": "note", "text": "x"}, r"contexts/aster.json:2: duplicate \(field 'document_id'\)"),
        ("aster", {"document_id": "other"}, r"contexts/aster.json:2: missing field \(field 'text'\)"),
        (
            "none",
            {"document_id": "a", "text": "x"},
            r"contexts/none.json: contexts of no world; expected documents/none",
        ),
    ],
)
def test_broken_contexts_are_refused_by_download(
    file: str, line: dict[str, str], message: str, with_context: DataSetFiles
) -> None:
    with_context.files.setdefault(f"contexts/{file}.json", []).append(line)
    with pytest.raises(DataError, match=message):
        check_dataset(with_context.write())


def test_contexts_are_downloaded_and_part_of_the_identity(
    with_context: DataSetFiles, data_set: DataSetFiles, tmp_path: Path
) -> None:
    config = DownloadConfig(source=str(with_context.write()))
    before = identities(config)
    (tmp_path / "obtained").mkdir()
    obtain(config.source, tmp_path / "obtained", tmp_path, config)
    assert (tmp_path / "obtained" / "contexts" / "aster.json").read_bytes().count(b"note") == 1
    data_set.write_lines("contexts/aster.json", [json.dumps({"document_id": "note", "text": f"{PAGE} !"})])
    assert identities(config) != before


def test_contexts_are_merged(with_context: DataSetFiles, tmp_path: Path) -> None:
    files = DataSetFiles(tmp_path / "wiki")
    files.files = {
        name.replace("aster", "delta"): lines for name, lines in with_context.files.items() if "/aster" in name
    }
    files.files["mentions/train.json"] = [
        {**line, "corpus": "delta", "context_document_id": "note"}
        for line in with_context.files["mentions/train.json"][1:]
    ]
    (tmp_path / "out").mkdir()
    merge([Part("zeshel", with_context.write()), Part("wiki", files.write())], {}, tmp_path / "out")
    merged = Dataset(tmp_path / "out")
    assert [page.document_id for world in ("aster", "delta", "brine") for page in merged.contexts(world)] == [
        "note"
    ] * 2
