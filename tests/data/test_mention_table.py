import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.data_set_files import DataSetFiles, mention
from zeshel_tasks.config.data import ConvertConfig
from zeshel_tasks.data.blink_format import convert_split, read_blink_mentions
from zeshel_tasks.data.mention_table import MentionTable, tokenize_mentions, tokenize_pairs
from zeshel_tasks.data.tokens import Tokens
from zeshel_tasks.data.zeshel import Dataset
from zeshel_tasks.errors import DataError
from zeshel_tasks.models.tokenizer import load_tokens

CATEGORIES = ["LOW_OVERLAP", "HIGH_OVERLAP", "LOW_OVERLAP", "AMBIGUOUS"]


@pytest.fixture(scope="module")
def tokens(golden: Path) -> Tokens:
    return load_tokens(golden / "bert", lowercase=True)


@pytest.fixture
def jsonl(data_set: DataSetFiles) -> Path:
    """A split with alternating mentions of two worlds."""
    data_set.files["mentions/train.json"] = [
        mention(world, number % 3) | {"mention_id": f"m{number}", "category": CATEGORIES[number]}
        for number, world in enumerate(["brine", "aster", "brine", "aster"])
    ]
    data_set.write()
    convert_split(Dataset(data_set.root), "train", data_set.root / "out", ConvertConfig())
    return data_set.root / "out" / "train.jsonl"


def test_columns_match_the_files(jsonl: Path, tokens: Tokens, tmp_path: Path) -> None:
    table = tokenize_mentions(jsonl, tokens, 16, tmp_path / "table")
    mentions = list(read_blink_mentions(jsonl))
    assert len(table) == len(mentions) == 4
    assert [table.worlds[world] for world in table.world] == [m.world for m in mentions]
    assert [table.categories[number] for number in table.category] == [m.category for m in mentions] == CATEGORIES
    assert table.label.tolist() == [m.label_id for m in mentions]
    assert table.worlds == ["aster", "brine"]
    assert table.categories == sorted(set(CATEGORIES))
    parts = [(m.context_left, m.mention, m.context_right) for m in mentions]
    np.testing.assert_array_equal(table.contexts, tokens.mentions(parts, 16))
    assert {world: rows.tolist() for world, rows in table.rows_of_world().items()} == {"aster": [1, 3], "brine": [0, 2]}


def test_loaded_table_keeps_only_names_in_memory(jsonl: Path, tokens: Tokens, tmp_path: Path) -> None:
    tokenize_mentions(jsonl, tokens, 16, tmp_path / "table")
    table = MentionTable.load(tmp_path / "table")
    for column in (table.contexts, table.world, table.label, table.category):
        assert isinstance(column, np.memmap)
        assert column.dtype == np.int32
    assert json.loads((tmp_path / "table" / "names.json").read_text()).keys() == {"worlds", "categories"}


def test_last_line_without_line_feed_counts(jsonl: Path, tokens: Tokens, tmp_path: Path) -> None:
    jsonl.write_text(jsonl.read_text().removesuffix("\n"))
    assert len(tokenize_mentions(jsonl, tokens, 16, tmp_path / "table")) == 4


@pytest.mark.parametrize(
    ("content", "problem"), [("", "empty file"), (None, "no such file"), ("{}\n\n", "train.jsonl:1")]
)
def test_broken_split_is_refused(
    jsonl: Path, tokens: Tokens, tmp_path: Path, content: str | None, problem: str
) -> None:
    jsonl.unlink() if content is None else jsonl.write_text(content)
    with pytest.raises(DataError, match=problem):
        tokenize_mentions(jsonl, tokens, 16, tmp_path / "table")


def test_each_gold_is_tokenized_once_in_order_of_occurrence(jsonl: Path, tokens: Tokens, tmp_path: Path) -> None:
    pairs = tokenize_pairs(jsonl, tokens, 16, 16, tmp_path / "pairs")
    mentions = list(read_blink_mentions(jsonl))
    golds = list(dict.fromkeys((m.world, m.label_id) for m in mentions))
    assert pairs.gold_row.tolist() == [golds.index((m.world, m.label_id)) for m in mentions]
    np.testing.assert_array_equal(
        pairs.golds[pairs.gold_row], tokens.candidates([(m.label_title, m.label) for m in mentions], 16)
    )
