import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from zeshel_tasks.data.mention_category import mention_category
from zeshel_tasks.demo.sample_worlds import write_sample_worlds
from zeshel_tasks.demo.sample_worlds.vocabulary import fill
from zeshel_tasks.demo.sample_worlds.writer import SAMPLE_WORLDS

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "worlds.tar.bz2"
    write_sample_worlds(path)
    return path


@pytest.fixture(scope="module")
def files(archive: Path) -> dict[str, Rows]:
    with tarfile.open(archive) as tar:
        return {
            member.name.removeprefix("zeshel/"): [json.loads(line) for line in tar.extractfile(member) or ()]
            for member in tar
        }


@pytest.fixture(scope="module")
def mentions(files: dict[str, Rows]) -> Rows:
    return [row for name, rows in files.items() if name.startswith("mentions/") for row in rows]


@pytest.fixture(scope="module")
def pages(files: dict[str, Rows]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (Path(name).stem, row["document_id"]): row
        for name, rows in files.items()
        if name.startswith("documents/")
        for row in rows
    }


def names(files: dict[str, Rows], split: str) -> set[str]:
    """Returns the words of the titles outside parentheses."""
    titles = [row["title"] for world in SAMPLE_WORLDS[split] for row in files[f"documents/{world}.json"]]
    return {word for title in titles for word in title.split(" ( ")[0].lower().split()}


def test_archive_bytes_depend_only_on_seed(archive: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again.tar.bz2", tmp_path / "other.tar.bz2"
    write_sample_worlds(again)
    write_sample_worlds(other, seed=8)
    assert again.read_bytes() == archive.read_bytes()
    assert other.read_bytes() != archive.read_bytes()


def test_archive_has_file_for_each_world_and_split(files: dict[str, Rows]) -> None:
    worlds = {f"documents/{world}.json" for split in SAMPLE_WORLDS.values() for world in split}
    assert set(files) == worlds | {f"mentions/{split}.json" for split in ("train", "val", "test")}
    assert {name: len(rows) for name, rows in files.items() if name in worlds} == dict.fromkeys(worlds, 200)


def test_each_split_mentions_exactly_its_own_worlds(files: dict[str, Rows]) -> None:
    for split, worlds in SAMPLE_WORLDS.items():
        counts = Counter(row["corpus"] for row in files[f"mentions/{split}.json"])
        assert counts == dict.fromkeys(worlds, 100)


def test_sizes_follow_the_arguments(tmp_path: Path) -> None:
    write_sample_worlds(tmp_path / "small.tar.bz2", entities_per_world=9, mentions_per_world=20)
    with tarfile.open(tmp_path / "small.tar.bz2") as tar:
        lines = {member.name: len(list(tar.extractfile(member) or ())) for member in tar}
    assert lines["zeshel/documents/amberfell.json"] == 9
    assert lines["zeshel/mentions/test.json"] == 20 * len(SAMPLE_WORLDS["test"])


@pytest.mark.parametrize("sizes", [{"entities_per_world": 1}, {"mentions_per_world": 0}])
def test_size_too_small_for_a_world_is_refused(tmp_path: Path, sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected at least"):
        write_sample_worlds(tmp_path / "none.tar.bz2", **sizes)
    assert not (tmp_path / "none.tar.bz2").exists()


def test_indices_of_a_mention_select_its_text(mentions: Rows, pages: dict[tuple[str, str], dict[str, Any]]) -> None:
    for row in mentions:
        tokens = pages[row["corpus"], row["context_document_id"]]["text"].split()
        assert row["text"] == " ".join(tokens[row["start_index"] : row["end_index"] + 1])


def test_context_and_gold_are_two_pages_of_the_same_world(
    mentions: Rows, pages: dict[tuple[str, str], dict[str, Any]]
) -> None:
    for row in mentions:
        assert (row["corpus"], row["context_document_id"]) in pages
        assert (row["corpus"], row["label_document_id"]) in pages
        assert row["context_document_id"] != row["label_document_id"]


def test_context_and_gold_page_share_facts(mentions: Rows, pages: dict[tuple[str, str], dict[str, Any]]) -> None:
    telling = 0
    sample = mentions[::20]
    for row in sample:
        context = pages[row["corpus"], row["context_document_id"]]["text"].split()
        after = context[row["end_index"] + 1 : row["end_index"] + 25]
        gold = pages[row["corpus"], row["label_document_id"]]["text"].split()[:60]
        others = [page for (world, _), page in pages.items() if world == row["corpus"]][:20]
        content = {word for word in after if len(word) > 3}
        average = sum(len(content & set(page["text"].split()[:60])) for page in others) / len(others)
        telling += len(content & set(gold)) > average
    assert telling > 0.9 * len(sample)


def test_ids_are_16_hexadecimal_digits_and_unique(mentions: Rows, files: dict[str, Rows]) -> None:
    documents = [row["document_id"] for name, rows in files.items() if name.startswith("documents/") for row in rows]
    for ids in (documents, [row["mention_id"] for row in mentions]):
        assert len(set(ids)) == len(ids)
        assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)


def test_titles_are_unique_in_a_world(files: dict[str, Rows]) -> None:
    for name, rows in files.items():
        if name.startswith("documents/"):
            assert len({row["title"] for row in rows}) == len(rows)


def test_most_names_are_shared_by_several_entities(files: dict[str, Rows]) -> None:
    for worlds in SAMPLE_WORLDS.values():
        for world in worlds:
            shared = Counter(row["title"].split(" ( ")[0] for row in files[f"documents/{world}.json"])
            assert sum(count for count in shared.values() if count > 1) > 100


def test_each_split_has_all_overlap_categories_fitting_titles(
    files: dict[str, Rows], pages: dict[tuple[str, str], dict[str, Any]]
) -> None:
    for split in SAMPLE_WORLDS:
        rows = files[f"mentions/{split}.json"]
        assert {row["category"] for row in rows} == {
            "HIGH_OVERLAP",
            "LOW_OVERLAP",
            "MULTIPLE_CATEGORIES",
            "AMBIGUOUS_SUBSTRING",
        }
        for row in rows:
            assert row["category"] == mention_category(
                row["text"], pages[row["corpus"], row["label_document_id"]]["title"]
            )


def test_names_of_unseen_worlds_do_not_occur_in_train_worlds(files: dict[str, Rows]) -> None:
    train_words = {
        word
        for world in SAMPLE_WORLDS["train"]
        for row in files[f"documents/{world}.json"]
        for word in f"{row['title']} {row['text']}".lower().split()
    }
    assert names(files, "train") <= train_words
    assert not (names(files, "val") | names(files, "test")) & train_words
    assert not names(files, "val") & names(files, "test")


def test_fill_chooses_article_that_fits_value() -> None:
    assert fill("marked with a {} and a star", "owl") == "marked with an owl and a star"
    assert fill("a {}", "oak") == "an oak"
    assert fill("has a {} coat", "grey") == "has a grey coat"
