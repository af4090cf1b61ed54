"""Any input is accepted, or refused with one of our errors in one printable line.

``HYPOTHESIS_PROFILE=hunt`` searches for new examples. The usual run has the same examples each time.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.bad_input.builders import archive_of, data_set_files, empty_member
from zeshel_tasks.cli import _parser
from zeshel_tasks.commands.settings_flags import recipe_of, with_underscores
from zeshel_tasks.config.data import ConvertConfig
from zeshel_tasks.config.splits import SPLITS
from zeshel_tasks.config.stages import STAGE_CONFIGS, Recipe
from zeshel_tasks.data.blink_format import BlinkMention, convert_split, read_blink_mentions
from zeshel_tasks.data.json_lines import read_records
from zeshel_tasks.data.zeshel import Dataset, check_dataset
from zeshel_tasks.download.archive import unpack
from zeshel_tasks.errors import ConfigError, DataError, ZeshelError
from zeshel_tasks.presets import PRESETS
from zeshel_tasks.recipe import build_recipe, read_config_file
from zeshel_tasks.text.yaml_text import read_yaml

MEGABYTE = 10**6
GOLDEN = Path(__file__).parents[1] / "golden"


@contextmanager
def read_or_refused() -> Iterator[None]:
    """Ignores our own errors after checking their messages. Any other error fails the test."""
    try:
        yield
    except ZeshelError as error:
        check_message(error)


def check_message(error: ZeshelError) -> None:
    """Checks that the message is one printable line, or one for each wrong setting."""
    lines = str(error).split("\n")
    assert isinstance(error, ConfigError) or len(lines) == 1
    for line in lines:
        assert line.isprintable(), ascii(line)
        assert 0 < len(line) < 5000


@contextmanager
def named(where: str) -> Iterator[None]:
    """Checks that a DataError names this place."""
    try:
        yield
    except DataError as error:
        if not str(error).startswith(where):
            raise AssertionError(f"expected {where}, got {error}") from error
        raise


def with_data_set(test: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        test(Path(folder))


# Bytes similar to a valid file: pieces are cut out, inserted and flipped.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
pieces = st.sampled_from(
    [b"", b"\n", b"\r\n", b"\x00", b"\xef\xbb\xbf", b"\xff", b"{", b"}", b"[" * 2000, b'"', b"\\ud800", b"9" * 5000,
     b"1e400", b"NaN", b"-1", b"true", b"null", b"\x1b[2J", "\u2028\x85".encode(), b'"text": 1, "text": 2,'],
) | st.binary(max_size=6)  # fmt: skip
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), pieces), min_size=1, max_size=3)


def edited(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, removed, added in changes:
        start = int(place * len(content))
        content = content[:start] + added + content[start + removed :]
    return content


@given(st.binary(max_size=300) | st.lists(st.binary(max_size=20), max_size=8).map(b"\n".join))
def test_arbitrary_bytes_are_read_as_records_or_refused(content: bytes) -> None:
    def read(folder: Path) -> None:
        (folder / "x.json").write_bytes(content)
        with read_or_refused():
            for record in read_records(folder / "x.json", "x.json"):
                assert isinstance(record.values, dict)

    with_data_set(read)


@given(st.dictionaries(st.text(st.characters(), max_size=6), json_values, max_size=5), st.text(max_size=6))
def test_arbitrary_field_is_read_or_refused_with_its_line(values: dict[str, Any], field: str) -> None:
    def read(folder: Path) -> None:
        (folder / "x.json").write_text(json.dumps(values) + "\n")
        record = next(read_records(folder / "x.json", "x.json"))
        for get in (record.text, record.name, record.index):
            for name in (field, *values):
                with read_or_refused(), named("x.json:1: "):
                    assert get(name) == values[name]

    with_data_set(read)


@given(st.sampled_from(["documents/aster.json", "mentions/train.json", "mentions/val.json"]), edits, st.booleans())
def test_edited_data_set_is_converted_or_refused(
    name: str, changes: list[tuple[float, int, bytes]], skip: bool
) -> None:
    config = ConvertConfig(on_bad_mention="skip", max_bad_share=1) if skip else ConvertConfig()

    def read(folder: Path) -> None:
        files = data_set_files(folder)
        root = folder / "zeshel"
        (root / name).write_bytes(edited(files[name], changes))
        with read_or_refused():
            check_dataset(root)
            for split in SPLITS:
                summary = convert_split(Dataset(root), split, folder / "out", config)
                found = list(read_blink_mentions(folder / "out" / f"{split}.jsonl"))
                assert len(found) == summary.mentions > 0

    with_data_set(read)


titles = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


categories = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20)


@given(st.lists(st.tuples(titles, titles), min_size=1, max_size=4), categories, st.integers(1, 5))
def test_arbitrary_texts_round_trip_through_conversion(
    pages: list[tuple[str, str]], category: str, context: int
) -> None:
    """A mention read from the converted files equals the original, in the case of its document."""

    def convert(folder: Path) -> None:
        root = folder / "zeshel"
        (root / "documents").mkdir(parents=True)
        (root / "mentions").mkdir()
        lines = [{"document_id": f"d{n}", "title": title, "text": text} for n, (title, text) in enumerate(pages)]
        lines.append({"document_id": "page", "title": "", "text": "left MARK right"})
        mention = {
            "mention_id": "m", "context_document_id": "page", "corpus": "w", "start_index": 1, "end_index": 1,
            "text": "mark", "label_document_id": "d0", "category": category or "none",
        }  # fmt: skip
        (root / "documents" / "w.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (root / "mentions" / "train.json").write_text(json.dumps(mention) + "\n")
        convert_split(Dataset(root), "train", folder / "out", ConvertConfig(context_tokens=context))
        assert list(read_blink_mentions(folder / "out" / "train.jsonl")) == [
            BlinkMention(
                context_left="left", mention="MARK", context_right="right", label=pages[0][1], label_id=0,
                label_title=pages[0][0], world="w", mention_id="m", category=category or "none",
                context_document_id="page", label_document_id="d0",
            )
        ]  # fmt: skip

    with_data_set(convert)


@given(st.sampled_from(["train.jsonl", "train.mentions.jsonl"]), edits)
def test_edited_blink_files_are_read_or_refused(name: str, changes: list[tuple[float, int, bytes]]) -> None:
    def read(folder: Path) -> None:
        data_set_files(folder)
        convert_split(Dataset(folder / "zeshel"), "train", folder / "out", ConvertConfig())
        path = folder / "out" / name
        path.write_bytes(edited(path.read_bytes(), changes))
        with read_or_refused():
            assert all(found.label_id >= 0 for found in read_blink_mentions(folder / "out" / "train.jsonl"))

    with_data_set(read)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_edited_archive_is_unpacked_or_refused(pack: Callable[[bytes], bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        good = archive_of(data_set_files(Path(folder)))[:12_000]

    @given(edits, edits | st.just([]))
    def check(within: list[tuple[float, int, bytes]], around: list[tuple[float, int, bytes]]) -> None:
        def read(folder: Path) -> None:
            (folder / "archive").write_bytes(edited(pack(edited(good, within)), around))
            with read_or_refused():
                unpack(folder / "archive", folder / "out", MEGABYTE)
            files = [path for path in folder.rglob("*") if path.is_file() and path.name != "archive"]
            assert all(path.parent.parent == folder / "out" for path in files)
            assert sum(path.stat().st_size for path in files) <= MEGABYTE

        with_data_set(read)

    check()


@given(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=30), st.sampled_from([b"0", b"5", b"2"]))
def test_arbitrary_member_name_stays_in_folder_or_is_refused(name: str, kind: bytes) -> None:
    def read(folder: Path) -> None:
        files = data_set_files(folder / "made")
        try:
            archive = archive_of(files, empty_member(name, kind), empty_member(f"documents/{name}.json"))
        except UnicodeEncodeError:  # a surrogate that represents no byte cannot occur in an archive
            return
        (folder / "archive").write_bytes(archive)
        with read_or_refused():
            unpack(folder / "archive", folder / "out", MEGABYTE)
        for path in (folder / "out").rglob("*"):
            assert path.is_dir() or path.parent.parent == folder / "out"
        assert {path.name for path in folder.iterdir()} <= {"made", "archive", "out"}

    with_data_set(read)


names = st.sampled_from(sorted({name for model in STAGE_CONFIGS.values() for name in model.model_fields}))
addresses = names | st.tuples(st.sampled_from(list(STAGE_CONFIGS)), names).map(".".join) | st.text(max_size=8)
yaml_pieces = st.sampled_from(
    [": ", "\n", "  ", "- ", "[", "]", "{", "}", "&a ", "*a", "<<: ", "!!int ", "!!python/name:os ", "? ", "| ", "> ",
     "'", '"', "#", "---\n", "...\n", "%YAML 1.1\n", "\t", "0x", "1:2", "2026-99-99", ".nan", "1e400", "~", "\ufeff"],
)  # fmt: skip
yaml_texts = st.lists(yaml_pieces | addresses | st.text(max_size=3), max_size=25).map("".join)


@given(yaml_texts)
@example("a: &a [*a]")
@example("? [a]\n: b")
@example("!!timestamp x")
def test_arbitrary_yaml_makes_a_recipe_or_is_refused(text: str) -> None:
    with read_or_refused():
        preset, overrides = read_config_file("r.yaml", text)
        recipe = build_recipe(preset or "smoke", overrides)
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@given(yaml_texts)
def test_unreadable_yaml_raises_one_line_value_error(text: str) -> None:
    try:
        read_yaml(text)
    except ValueError as error:
        problem = str(error)
    else:
        problem = "none"
    assert len(problem.splitlines()) == 1


@given(st.sampled_from(list(PRESETS)), st.data())
def test_accepted_recipe_round_trips_through_json(preset: str, data: st.DataObject) -> None:
    stage = data.draw(st.sampled_from(list(STAGE_CONFIGS)))
    name = data.draw(st.sampled_from(list(STAGE_CONFIGS[stage].model_fields)))
    value = data.draw(st.integers(-2, 600) | st.floats() | st.text(max_size=8) | st.booleans() | st.none())
    with read_or_refused():
        recipe = build_recipe(preset, {f"{stage}.{name}": value})
        said = json.loads(recipe.model_dump_json(exclude={"preset"}))
        assert build_recipe("recommended", said).model_copy(update={"preset": preset}) == recipe
        assert build_recipe("blink", json.loads(json.dumps(said))).model_copy(update={"preset": preset}) == recipe


flags = st.sampled_from(["--run", "--preset", "--config", "--split", "--", "-", "--=", "--help=1", "--top-k", "--seed"])
words = st.text(st.characters(), max_size=8) | st.sampled_from(
    ["convert", "download", "pipeline", "show", "eval-biencoder", "smoke", "1", "-1", "x", "train", "/nowhere"]
)
switches = st.tuples(addresses | words, words).map(lambda pair: f"--{pair[0]}={pair[1]}")


@given(st.sampled_from(["convert", "pipeline", "train-biencoder", "report"]), st.lists(flags | words | switches))
def test_arbitrary_command_line_makes_a_recipe_or_is_refused(command: str, arguments: list[str]) -> None:
    with read_or_refused():
        try:
            options = _parser().parse_args(with_underscores([command, "--run", "x", *arguments]))
        except SystemExit as told:  # --help, --version
            code, options = told.code, None
        assert code == 0 if options is None else isinstance(recipe_of(options), Recipe)


# Opening a model takes a hundred times as long as reading a line.
fewer = settings(max_examples=settings.default.max_examples // 4)

MODEL_FILES = ["config.json", "vocab.txt", "model.safetensors"]
SHAPES = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
          "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "model_type", "pad_token_id",
          "hidden_dropout_prob", "initializer_range", "architectures", "auto_map", "dtype", "quantization_config",
          "tokenizer_class", "is_decoder", "tie_word_embeddings"]  # fmt: skip
shapes = st.dictionaries(
    st.sampled_from(SHAPES), json_values | st.sampled_from([0, -1, 1, 2, 64, 3000, 10**12, 0.5]), min_size=1, max_size=3
)


def open_model(folder: Path) -> None:
    from zeshel_tasks.models.bert import load_bert
    from zeshel_tasks.models.tokenizer import load_tokenizer

    with read_or_refused():
        load_bert(folder)
    with read_or_refused():
        load_tokenizer(folder, lowercase=True)


@fewer
@given(st.sampled_from(MODEL_FILES), edits)
def test_edited_model_opens_or_is_refused(name: str, changes: list[tuple[float, int, bytes]]) -> None:
    def read(folder: Path) -> None:
        shutil.copytree(GOLDEN / "bert", folder, dirs_exist_ok=True)
        (folder / name).write_bytes(edited((folder / name).read_bytes(), changes))
        open_model(folder)

    with_data_set(read)


@fewer
@given(shapes)
def test_model_with_arbitrary_configuration_opens_or_is_refused(changed: dict[str, Any]) -> None:
    def read(folder: Path) -> None:
        shutil.copytree(GOLDEN / "bert", folder, dirs_exist_ok=True)
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(values | changed))
        open_model(folder)

    with_data_set(read)


TOKENIZER_FILES = ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"]
TOKENIZER_FIELDS = ["tokenizer_class", "cls_token", "model", "added_tokens", "version", "auto_map", "do_lower_case",
                    "model_max_length", "backend", "extra_special_tokens"]  # fmt: skip
tokenizers = json_values | st.dictionaries(st.sampled_from(TOKENIZER_FIELDS), json_values)


@fewer
@given(st.sampled_from(TOKENIZER_FILES), tokenizers)
def test_tokenizer_with_arbitrary_settings_opens_or_is_refused(name: str, content: Any) -> None:
    def read(folder: Path) -> None:
        shutil.copytree(GOLDEN / "bert", folder, dirs_exist_ok=True)
        (folder / name).write_text(json.dumps(content))
        open_model(folder)

    with_data_set(read)
