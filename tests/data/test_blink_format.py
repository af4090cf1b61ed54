import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize
from weakref import WeakSet

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.data_set_files import DataSetFiles, document, mention
from zeshel_tasks.config.data import ConvertConfig
from zeshel_tasks.config.splits import SPLITS, Split
from zeshel_tasks.data.blink_format import (
    CASED_FIELDS,
    SplitSummary,
    World,
    WorldSummary,
    convert_metrics,
    convert_split,
    read_blink_mentions,
)
from zeshel_tasks.data.zeshel import Dataset, Document, Mention
from zeshel_tasks.errors import DataError

TRAIN = "mentions/train.json"
SKIP = ConvertConfig(on_bad_mention="skip", max_bad_share=0.5)


def convert(data_set: DataSetFiles, config: ConvertConfig | None = None, split: Split = "train") -> SplitSummary:
    return convert_split(Dataset(data_set.write()), split, data_set.root / "out", config or ConvertConfig())


def converted(data_set: DataSetFiles, split: str = "train") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (data_set.root / f"out/{split}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("split", SPLITS)
def test_output_equals_that_of_blink_byte_for_byte(golden: Path, tmp_path: Path, split: Split) -> None:
    convert_split(Dataset(golden / "raw"), split, tmp_path, ConvertConfig())
    assert (tmp_path / f"{split}.jsonl").read_bytes() == (golden / f"blink_format/{split}.jsonl").read_bytes()


class CountingText(str):
    """Text that counts how often it is split."""

    splits = 0

    def split(self, *arguments: Any, **options: Any) -> list[str]:
        self.splits += 1
        return super().split(*arguments, **options)


def test_page_is_split_once_for_all_its_mentions() -> None:
    page = CountingText(" ".join(f"t{i}" for i in range(1000)))
    world = World("w", [Document("d", "title", page)])
    for i in range(1000):
        found = Mention(f"m{i}", "d", "w", i, i, f"T{i}", "d", "LOW_OVERLAP", i + 1)
        world.check(found, "mentions/train.json")
        context, _ = world.convert(found, 2)
        assert context["context_left"] == " ".join(f"t{j}" for j in range(max(0, i - 2), i))
        assert context["context_right"] == " ".join(f"t{j}" for j in range(i + 1, min(1000, i + 3)))
    assert page.splits == 1


@given(st.text(" ab", max_size=10), st.integers(0, 9), st.integers(1, 3))
def test_context_is_that_of_a_split_page(text: str, place: int, size: int) -> None:
    tokens = text.split(" ")
    place = min(place, len(tokens) - 1)
    found = Mention("m", "d", "w", place, place, tokens[place], "d", "LOW_OVERLAP", 1)
    world = World("w", [Document("d", "title", text)])
    world.check(found, "mentions/train.json")
    context, _ = world.convert(found, size)
    assert context["context_left"] == " ".join(tokens[max(0, place - size) : place])
    assert context["context_right"] == " ".join(tokens[place + 1 : place + 1 + size])


@pytest.mark.parametrize(("in_page", "in_mention"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_message_tells_apart_what_looks_alike(
    in_page: Literal["NFC", "NFD"], in_mention: Literal["NFC", "NFD"]
) -> None:
    page, name = normalize(in_page, "café"), normalize(in_mention, "café")
    world = World("w", [Document(page, "title", page)])
    known = f"a document of documents/w.json, such as {page}"
    for found, expected in [
        (Mention("m", page, "w", 0, 0, name, page, "LOW_OVERLAP", 1), f"expected '{page}', tokens"),
        (Mention("m", page, "w", 0, 0, page, name, "LOW_OVERLAP", 1), known),
        (Mention("m", name, "w", 0, 0, page, page, "LOW_OVERLAP", 1), known),
    ]:
        with pytest.raises(DataError) as raised:
            world.check(found, "mentions/train.json")
        assert expected.encode("ascii", "backslashreplace").decode() in str(raised.value)
        assert name.encode("ascii", "backslashreplace").decode() in str(raised.value)
        assert str(raised.value).isascii()


def test_url_aliases_and_types_do_not_change_output(data_set: DataSetFiles) -> None:
    convert(data_set)
    files = ("train.jsonl", "train.mentions.jsonl")
    before = [(data_set.root / "out" / name).read_bytes() for name in files]
    for line in data_set.files["documents/aster.json"]:
        line |= {"url": "https://wiki.example", "aliases": ["other name"], "types": ["page"]}
    convert(data_set)
    assert [(data_set.root / "out" / name).read_bytes() for name in files] == before


def test_mentions_file_has_ids_category_and_cased_text_of_each_line(golden: Path, tmp_path: Path) -> None:
    convert_split(Dataset(golden / "raw"), "valid", tmp_path, ConvertConfig())
    raw = [json.loads(line) for line in (golden / "raw/mentions/val.json").read_text().splitlines()]
    blink, beside = (
        [json.loads(line) for line in (tmp_path / f"valid.{name}").read_text().splitlines()]
        for name in ("jsonl", "mentions.jsonl")
    )
    ids = ("mention_id", "category", "context_document_id", "label_document_id")
    assert [{field: line[field] for field in ids} for line in beside] == [
        {field: line[field] for field in ids} for line in raw
    ]
    texts = [{field: line[field] for field in CASED_FIELDS} for line in beside]
    assert [{field: text.lower() for field, text in line.items()} for line in texts] == [
        {field: line[field] for field in CASED_FIELDS} for line in blink
    ]
    documents = [
        json.loads(line)["text"]
        for path in (golden / "raw/documents").iterdir()
        for line in path.read_text().splitlines()
    ]
    for text in texts[:10]:
        whole = " ".join(text[field] for field in CASED_FIELDS if text[field])
        assert whole != whole.lower()
        assert any(whole in document for document in documents)


def test_mention_has_the_case_of_its_document(data_set: DataSetFiles) -> None:
    for line in data_set.files["mentions/train.json"]:
        line["text"] = line["text"].upper()
    convert(data_set)
    mentions = read_blink_mentions(data_set.root / "out/train.jsonl")
    assert [mention.mention for mention in mentions] == ["Page 1", "Page 2"]


def test_mentions_of_version_0_1_are_read_in_lower_case(data_set: DataSetFiles) -> None:
    """Its runs can still be exported and continued."""
    convert(data_set)
    beside = data_set.root / "out/train.mentions.jsonl"
    lines = [json.loads(line) for line in beside.read_text().splitlines()]
    older = [{field: line[field] for field in line if field not in CASED_FIELDS} for line in lines]
    beside.write_text("".join(json.dumps(line) + "\n" for line in older))
    first, _ = read_blink_mentions(data_set.root / "out/train.jsonl")
    texts = {field: getattr(first, field) for field in CASED_FIELDS}
    assert texts == {field: converted(data_set)[0][field] for field in CASED_FIELDS}
    assert first.mention == "page 1"


def test_conversion_leaves_only_two_files(data_set: DataSetFiles) -> None:
    convert(data_set)
    assert {path.name for path in (data_set.root / "out").iterdir()} == {"train.jsonl", "train.mentions.jsonl"}


def test_context_and_mention_are_lower_cased_but_label_is_not(data_set: DataSetFiles) -> None:
    convert(data_set)
    assert converted(data_set)[0] == {
        "context_left": "the aster page 0 tells of its",
        "context_right": ".",
        "mention": "page 1",
        "label": "The aster Page 1 tells of its Page 2 .",
        "label_id": 1,
        "label_title": "Page 1",
        "world": "aster",
    }


def test_context_is_cut_to_the_nearest_tokens(data_set: DataSetFiles) -> None:
    data_set.files["documents/aster.json"][0]["text"] = "a b c Page 1 d e f"
    data_set.files[TRAIN] = [mention("aster", 0) | {"start_index": 3, "end_index": 4}]
    convert(data_set, ConvertConfig(context_tokens=2))
    assert (converted(data_set)[0]["context_left"], converted(data_set)[0]["context_right"]) == ("b c", "d e")


def test_tokens_are_separated_by_single_spaces_only(data_set: DataSetFiles) -> None:
    data_set.files["documents/aster.json"][0]["text"] = "a  b\u00a0c\td Page 1"
    data_set.files[TRAIN] = [mention("aster", 0) | {"start_index": 3, "end_index": 4}]
    convert(data_set)
    assert converted(data_set)[0]["context_left"] == "a  b\u00a0c\td"


def test_mention_text_is_compared_without_case(data_set: DataSetFiles) -> None:
    data_set.files[TRAIN][0]["text"] = "PAGE 1"
    convert(data_set)
    assert converted(data_set)[0]["mention"] == "page 1"


def test_mentions_of_interleaved_worlds_keep_file_order(data_set: DataSetFiles) -> None:
    data_set.files[TRAIN] = [mention(world, i) for i in range(3) for world in ("cinder", "aster", "brine")]
    convert(data_set)
    assert [line["world"] for line in converted(data_set)] == ["cinder", "aster", "brine"] * 3
    assert [line["label_id"] for line in converted(data_set)] == [1, 1, 1, 2, 2, 2, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "line", "field", "problem"),
    [
        ({"text": "Page 7"}, 2, "text", "text differs from its tokens"),
        ({"start_index": 6}, 2, "text", "text differs from its tokens"),
        ({"start_index": 8, "end_index": 7}, 2, "end_index", "reversed span"),
        ({"end_index": 10}, 2, "end_index", "span out of range"),
        ({"start_index": 99, "end_index": 99}, 2, "end_index", "span out of range"),
        ({"start_index": -1}, 2, "start_index", "negative index"),
        ({"end_index": -1}, 2, "end_index", "negative index"),
        ({"context_document_id": "brine-0"}, 2, "context_document_id", "unknown document"),
        ({"label_document_id": "nowhere"}, 2, "label_document_id", "unknown document"),
        ({"corpus": "atlantis"}, 2, "corpus", "unknown world"),
        ({"mention_id": "m-aster-0"}, 2, "mention_id", "duplicate"),
        ({"category": 7}, 2, "category", "wrong type"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else str(value),
)
class TestABrokenMention:
    def test_stops_conversion_with_file_and_line(
        self, data_set: DataSetFiles, change: dict[str, Any], line: int, field: str, problem: str
    ) -> None:
        data_set.files[TRAIN][1] |= change
        with pytest.raises(DataError, match=f"^{TRAIN}:{line}: {problem}") as error:
            convert(data_set)
        assert error.value.field == field
        assert error.value.expected is not None
        assert error.value.got is not None

    def test_is_left_out_and_counted_if_configured(
        self,
        data_set: DataSetFiles,
        caplog: pytest.LogCaptureFixture,
        change: dict[str, Any],
        line: int,
        field: str,
        problem: str,
    ) -> None:
        data_set.files[TRAIN].append(mention("aster", 2))
        data_set.files[TRAIN][1] |= change
        summary = convert(data_set, SKIP)
        assert (summary.mentions, summary.skipped) == (2, 1)
        assert [found["label_id"] for found in converted(data_set)] == [1, 0]
        assert f"left out: {TRAIN}:{line}: {problem}" in caplog.text


def test_broken_line_is_left_out_if_configured(data_set: DataSetFiles) -> None:
    root = data_set.write()
    data_set.write_lines(TRAIN, ["{", json.dumps(mention("aster", 0))])
    summary = convert_split(Dataset(root), "train", root / "out", SKIP)
    assert summary == SplitSummary(1, 1, {"aster": WorldSummary(1, 1, 0)}, capped=False)


def test_broken_documents_stop_the_conversion_even_with_skip(data_set: DataSetFiles) -> None:
    data_set.files["documents/aster.json"].append(document("aster", 0))
    with pytest.raises(DataError, match=r"^documents/aster.json:4: duplicate"):
        convert(data_set, SKIP)


def test_too_many_broken_mentions_stop_conversion(
    many_mentions: Callable[[int], DataSetFiles],
) -> None:
    data_set = many_mentions(100)
    for line in data_set.files[TRAIN][10:13]:
        line["text"] = "something else"
    assert convert(data_set, ConvertConfig(on_bad_mention="skip", max_bad_share=0.03)).skipped == 3
    with pytest.raises(DataError, match=rf"{TRAIN}:11: text differs.*at most 2.00%.*got 3 of 100, 3.00%"):
        convert(data_set, ConvertConfig(on_bad_mention="skip", max_bad_share=0.02))


def test_only_the_first_few_broken_mentions_are_logged(
    many_mentions: Callable[[int], DataSetFiles], caplog: pytest.LogCaptureFixture
) -> None:
    data_set = many_mentions(100)
    for line in data_set.files[TRAIN][:40]:
        line["text"] = "something else"
    assert convert(data_set, SKIP).skipped == 40
    assert len([record for record in caplog.records if "text differs" in record.message]) == 5
    assert "further ones are counted and not logged" in caplog.text


def test_split_left_empty_by_skipping_is_refused(data_set: DataSetFiles) -> None:
    for line in data_set.files[TRAIN]:
        line["text"] = "something else"
    with pytest.raises(DataError, match=f"^{TRAIN}: no mentions"):
        convert(data_set, ConvertConfig(on_bad_mention="skip", max_bad_share=1))


class TestMaxMentionsPerWorld:
    def kept(self, data_set: DataSetFiles, **config: Any) -> list[str]:
        convert(data_set, ConvertConfig(**config))
        return [found.mention_id for found in read_blink_mentions(data_set.root / "out/train.jsonl")]

    def test_keeps_subset_in_file_order_and_logs_it(
        self, many_mentions: Callable[[int], DataSetFiles], caplog: pytest.LogCaptureFixture
    ) -> None:
        data_set = many_mentions(1200)
        data_set.files[TRAIN].append(mention("cinder", 0))
        with caplog.at_level("INFO"):
            summary = convert(data_set, ConvertConfig(max_mentions_per_world=20))
        assert summary == SplitSummary(
            21, 0, {"aster": WorldSummary(20, 1200, 0), "cinder": WorldSummary(1, 1, 0)}, capped=True
        )
        assert "kept 20 of 1,200 mentions of aster (max_mentions_per_world)" in caplog.text
        assert "cinder" not in caplog.text
        ids = [found.mention_id for found in read_blink_mentions(data_set.root / "out/train.jsonl")]
        assert ids == [*sorted(ids[:-1]), "m-cinder-0"]

    def test_is_repeatable_and_depends_on_seed(self, many_mentions: Callable[[int], DataSetFiles]) -> None:
        data_set = many_mentions(200)
        first = self.kept(data_set, max_mentions_per_world=20)
        assert self.kept(data_set, max_mentions_per_world=20) == first
        assert self.kept(data_set, max_mentions_per_world=20, subset_seed=1) != first

    def test_chooses_uniformly(self, many_mentions: Callable[[int], DataSetFiles]) -> None:
        data_set = many_mentions(40)
        chosen = Counter(
            mention_id
            for seed in range(100)
            for mention_id in self.kept(data_set, max_mentions_per_world=10, subset_seed=seed)
        )
        # 25 of each are expected, with a standard deviation of 4.3. Allow five deviations on either side.
        assert len(chosen) == 40
        assert all(4 <= count <= 46 for count in chosen.values())

    def test_chooses_only_valid_mentions(self, many_mentions: Callable[[int], DataSetFiles]) -> None:
        data_set = many_mentions(40)
        for line in data_set.files[TRAIN][::4]:
            line["text"] = "something else"
        summary = convert(data_set, SKIP.model_copy(update={"max_mentions_per_world": 30}))
        assert summary.worlds == {"aster": WorldSummary(30, 40, 10)}
        assert not summary.capped

    def test_changes_nothing_within_limit(self, golden: Path, tmp_path: Path) -> None:
        convert_split(Dataset(golden / "raw"), "test", tmp_path, ConvertConfig(max_mentions_per_world=30))
        assert (tmp_path / "test.jsonl").read_bytes() == (golden / "blink_format/test.jsonl").read_bytes()


class WatchedDocument(Document):
    """A document that supports weak references, which the slots of the original prevent."""


def test_documents_of_only_one_world_are_in_memory(golden: Path, tmp_path: Path) -> None:
    living: WeakSet[WatchedDocument] = WeakSet()
    counts: list[int] = []

    class WatchedDataset(Dataset):
        def documents(self, world: str) -> Iterator[Document]:
            for found in super().documents(world):
                watched = WatchedDocument(found.document_id, found.title, found.text)
                living.add(watched)
                yield watched
            counts.append(len(living))

    convert_split(WatchedDataset(golden / "raw"), "train", tmp_path, ConvertConfig())
    assert counts == [80] * 4


def test_metrics_cover_all_splits(golden: Path, tmp_path: Path) -> None:
    config = ConvertConfig(max_mentions_per_world=25)
    dataset = Dataset(golden / "raw")
    metrics = convert_metrics({split: convert_split(dataset, split, tmp_path, config) for split in SPLITS}, {}).dump()
    assert metrics["mentions"] == {"train": 100, "valid": 50, "test": 50}
    assert metrics["worlds"]["valid"]["ember"] == {"mentions": 25, "mentions_in_data_set": 30, "skipped": 0}
    assert metrics["capped"] is True
    assert json.loads(json.dumps(metrics)) == metrics


class TestReading:
    def test_joins_both_files_line_by_line(self, data_set: DataSetFiles) -> None:
        convert(data_set)
        found = list(read_blink_mentions(data_set.root / "out/train.jsonl"))
        assert [(item.mention_id, item.context_document_id, item.label_document_id) for item in found] == [
            ("m-aster-0", "aster-0", "aster-1"),
            ("m-aster-1", "aster-1", "aster-2"),
        ]
        assert (found[1].mention, found[1].label_id, found[1].category) == ("Page 2", 2, "HIGH_OVERLAP")

    @pytest.mark.parametrize("name", ["train.jsonl", "train.mentions.jsonl"])
    def test_refuses_files_of_different_length(self, data_set: DataSetFiles, name: str) -> None:
        convert(data_set)
        path = data_set.root / "out" / name
        path.write_text(path.read_text().splitlines()[0] + "\n")
        with pytest.raises(DataError, match=r"too (few|many) lines"):
            list(read_blink_mentions(data_set.root / "out/train.jsonl"))

    def test_refuses_broken_line_with_file_and_line(self, data_set: DataSetFiles) -> None:
        convert(data_set)
        path = data_set.root / "out/train.jsonl"
        path.write_text(path.read_text().replace('"label_id": 2', '"label_id": "2"'))
        with pytest.raises(DataError, match=r"^train.jsonl:2: .*label_id.*expected an integer"):
            list(read_blink_mentions(path))
