"""Merging data sets: the documented rule, and the errors for inputs that break it."""

import json
from pathlib import Path

import pytest

from tests.support.data_set_files import DataSetFiles, document, mention
from zeshel_tasks.config.data import DownloadConfig
from zeshel_tasks.data.zeshel import Dataset, check_dataset
from zeshel_tasks.download.merge import Part, merge
from zeshel_tasks.errors import ConfigError, DataError


@pytest.fixture
def zeshel(tmp_path: Path) -> Part:
    return Part("zeshel", DataSetFiles(tmp_path / "zeshel").write())


@pytest.fixture
def wiki(tmp_path: Path) -> DataSetFiles:
    """A team's own data set: one world with mentions in train and in a held-out file."""
    files = DataSetFiles(tmp_path / "wiki")
    files.files = {
        "documents/delta.json": [document("delta", number) for number in range(3)],
        "mentions/train.json": [mention("delta", number) for number in range(2)],
        "mentions/heldout_train_seen.json": [mention("delta", 2)],
    }
    return files


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "merged"
    folder.mkdir()
    return folder


def worlds_of(out: Path, file: str) -> list[str]:
    return [json.loads(line)["corpus"] for line in (out / "mentions" / file).read_text().splitlines()]


def test_merge_keeps_splits_and_order_of_data_sets(zeshel: Part, wiki: DataSetFiles, out: Path) -> None:
    merge([zeshel, Part("wiki", wiki.write())], {}, out)
    summary = check_dataset(out)
    assert summary.documents == {"aster": 3, "brine": 3, "cinder": 3, "delta": 3}
    assert summary.mentions == {
        "train": {"aster": 2, "delta": 2},
        "valid": {"brine": 2},
        "test": {"cinder": 2},
        "heldout_train_seen": {"delta": 1},
    }
    assert worlds_of(out, "train.json") == ["aster"] * 2 + ["delta"] * 2


def test_url_aliases_and_types_of_documents_are_kept(zeshel: Part, wiki: DataSetFiles, out: Path) -> None:
    extra = {"url": "https://wiki.example/0", "aliases": ["zero"], "types": ["page"]}
    wiki.files["documents/delta.json"][0] |= extra
    merge([zeshel, Part("wiki", wiki.write())], {}, out)
    first = next(Dataset(out).documents("delta"))
    assert (first.url, first.aliases, first.types) == (extra["url"], ("zero",), ("page",))


def test_assigned_world_moves_to_its_split_as_a_whole(zeshel: Part, wiki: DataSetFiles, out: Path) -> None:
    merge([zeshel, Part("wiki", wiki.write())], {"delta": "test"}, out)
    assert check_dataset(out).mentions == {
        "train": {"aster": 2},
        "valid": {"brine": 2},
        "test": {"cinder": 2, "delta": 3},
    }


def test_assigned_world_may_have_either_normal_form(zeshel: Part, wiki: DataSetFiles, out: Path) -> None:
    wiki.files["documents/caf\u00e9.json"] = wiki.files.pop("documents/delta.json")
    for file, lines in wiki.files.items():
        for line in lines if file.startswith("mentions/") else ():
            line["corpus"] = "cafe\u0301" if line["corpus"] == "delta" else line["corpus"]
    config = DownloadConfig(worlds_to_splits=("cafe\u0301=test",))
    merge([zeshel, Part("wiki", wiki.write())], config.assigned, out)
    assert check_dataset(out).mentions["test"] == {"caf\u00e9": 3, "cinder": 2}


def test_missing_final_line_end_does_not_join_lines(zeshel: Part, wiki: DataSetFiles, out: Path) -> None:
    file = zeshel.folder / "mentions" / "train.json"
    file.write_text(file.read_text().rstrip("\n"))
    merge([zeshel, Part("wiki", wiki.write())], {}, out)
    assert check_dataset(out).mentions["train"] == {"aster": 2, "delta": 2}


def test_unreadable_line_stays_in_its_split(zeshel: Part, wiki: DataSetFiles, out: Path) -> None:
    with (zeshel.folder / "mentions" / "val.json").open("a") as file:
        file.write("no json\n[]\n{}\n")
    merge([zeshel, Part("wiki", wiki.write())], {"delta": "test", "aster": "train"}, out)
    assert check_dataset(out).bad_mentions["valid"] == 3


def test_world_in_two_data_sets_is_refused_by_name(zeshel: Part, tmp_path: Path, out: Path) -> None:
    other = Part("other", DataSetFiles(tmp_path / "other").write())
    with pytest.raises(DataError, match=r"documents/aster\.json: .*two data sets.* zeshel has it.*got other"):
        merge([zeshel, other], {}, out)


def test_unknown_assigned_world_is_refused_with_the_known_worlds(zeshel: Part, out: Path) -> None:
    with pytest.raises(ConfigError, match=r"worlds_to_splits: .*aster, brine, cinder.*got 'astre'"):
        merge([zeshel], {"astre": "test"}, out)


def test_mention_id_in_two_data_sets_counts_as_bad_mention(zeshel: Part, wiki: DataSetFiles, out: Path) -> None:
    wiki.files["mentions/train.json"][0]["mention_id"] = "m-aster-0"
    merge([zeshel, Part("wiki", wiki.write())], {}, out)
    assert check_dataset(out).bad_mentions["train"] == 1


def test_part_without_worlds_is_refused_by_name(zeshel: Part, tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="s3://kb/"):
        merge([zeshel, Part("s3://kb/", tmp_path / "empty")], {}, out)


def test_mention_file_of_unknown_split_is_refused(zeshel: Part, wiki: DataSetFiles, out: Path) -> None:
    """No error would notice its missing mentions."""
    wiki.files["mentions/valid.json"] = wiki.files.pop("mentions/train.json")
    with pytest.raises(DataError, match=r"wiki: mentions: a file of no split; expected .*val\.json.*; got valid\.json"):
        merge([zeshel, Part("wiki", wiki.write())], {}, out)


def test_empty_mention_file_is_refused(zeshel: Part, wiki: DataSetFiles, out: Path) -> None:
    wiki.files["mentions/train.json"] = []
    with pytest.raises(DataError, match=r"wiki: mentions/train\.json: empty file"):
        merge([zeshel, Part("wiki", wiki.write())], {}, out)


def test_mention_of_world_in_another_data_set_is_refused(zeshel: Part, wiki: DataSetFiles, out: Path) -> None:
    wiki.files["mentions/train.json"].append(mention("aster", 2))
    with pytest.raises(
        DataError, match=r"wiki: mentions/train\.json:3: .*another .*zeshel has the documents.*got aster"
    ):
        merge([zeshel, Part("wiki", wiki.write())], {}, out)


def test_bad_line_is_logged_with_its_file_and_line(
    zeshel: Part, wiki: DataSetFiles, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wiki.write()
    with (wiki.root / "mentions" / "train.json").open("a") as file:
        file.write("no json\n")
    merge([zeshel, Part("wiki", wiki.root)], {}, out)
    assert "bad mention: wiki: mentions/train.json:3: " in caplog.text


def test_split_left_without_worlds_is_refused_by_name(zeshel: Part, out: Path) -> None:
    with pytest.raises(ConfigError, match="worlds_to_splits: expected a world left for valid"):
        merge([zeshel], {"brine": "train"}, out)
