"""Addresses parsed into locations, and the options that take them."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from zeshel_tasks import cli
from zeshel_tasks.config.data import ZESHEL_ON_GOOGLE_DRIVE
from zeshel_tasks.demo import __main__ as demo
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import (
    DriveFile,
    HubModel,
    LocalPath,
    Location,
    Parser,
    S3Address,
    WebAddress,
    local_location,
    located,
    model_location,
    source_location,
    store_location,
)
from zeshel_tasks.orchestration.settings import read_deployment
from zeshel_tasks.pipeline import contract
from zeshel_tasks.recipe import build_recipe

DOCS = Path(__file__).parents[1] / "docs" / "addresses.md"
FILE_ID = "1ZcKZ1is0VEkY9kNfPxIG19qEIqHE5LIO"
LOCAL = ["data.tar", "./data.tar", "/a/b c", "~/data", "/data/runs/r1", "file:///a/b%20c", "file://localhost/a"]
DRIVE = [
    ZESHEL_ON_GOOGLE_DRIVE,
    f"https://drive.google.com/uc?id={FILE_ID}",
    f"https://drive.google.com/u/0/uc?id={FILE_ID}&export=download",
    f"https://drive.google.com/file/d/{FILE_ID}/view?usp=sharing",
    f"https://drive.google.com/file/d/{FILE_ID}",
    f"https://drive.google.com/open?id={FILE_ID}",
    f"https://docs.google.com/uc?export=download&id={FILE_ID}",
    f"https://drive.usercontent.google.com/download?id={FILE_ID}&export=download&confirm=t",
]
WRONG = [
    "s3://",
    "s3://a b/key",
    "s3://bucket:1/key",
    "s3://b//",
    "s3://b/k//",
    "file://",
    "a b://c",
    "file:",
    f"s3://bucket/{'é' * 513}",
]
WRONG += ["x" * 5000, "y" * 256, f"a/{'é' * 128}", f"file:///{'y' * 256}", "a\ud800", "file:///a%00b"]
WRONG += [
    "http://",
    "http://[::1/x",
    "http://host:0/x",
    "http://host:/x",
    "https://a b/x",
    "https://user@/x",
    "https://drive.google.com/uc?id=",
]
PARSERS: dict[str, Parser] = {
    "store": store_location,
    "data set": source_location,
    "model": model_location,
    "weights": store_location,
    "file": local_location,
}


def documented() -> dict[str, dict[str, bool]]:
    """The table in docs/addresses.md: address -> kind of option -> taken."""
    rows = [line.strip("|").split("|") for line in DOCS.read_text(encoding="utf-8").splitlines()]
    kinds = next([cell.strip() for cell in row[2:]] for row in rows if row[0] == " address ")
    assert kinds == list(PARSERS)
    table = {}
    answers = {"yes": True, "no": False}
    for address, *cells in (row for row in rows if len(row) == 7 and row[0].startswith(" `")):
        text = address[2:-2].encode("latin-1", "backslashreplace").decode("unicode_escape")
        table[text] = {kind: answers[cell.strip()] for kind, cell in zip(kinds, cells[1:], strict=True)}
    return table


FORMS = documented()


def parse_arguments(*arguments: str) -> None:
    cli._parser().parse_args(list(arguments))


def run_in(store: str) -> str:
    """The address of a run in a store. What is wrong with the store's address stays at its end."""
    found = re.fullmatch(r"(.*?)([\s\u200b]*)", store, re.DOTALL)
    assert found is not None
    return f"{found[1].removesuffix('/')}/runs/r{found[2]}" if found[1] else store


def read_store_variable(address: str) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ZESHEL_STORE", address)
        read_deployment()


def use_scratch(address: str) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ZESHEL_SCRATCH", address)
        environment.setattr(Path, "is_dir", lambda _: True)
        environment.setattr(contract.tempfile, "TemporaryDirectory", lambda **_: nullcontext("scratch"))
        with contract.scratch_space():
            pass


def parse_demo_argument(flag: str, address: str) -> None:
    with pytest.MonkeyPatch.context() as environment:

        def refuse(_: object, message: str) -> None:
            raise ConfigError(message)

        environment.setattr("argparse.ArgumentParser.error", refuse)
        demo._parser().parse_args([flag, address])


OPTIONS: dict[str, tuple[str, Callable[[str], object]]] = {
    "--run": ("store", lambda address: parse_arguments("show", "--run", run_in(address))),
    "--store": ("store", lambda address: parse_arguments("champions", "--store", address)),
    "ZESHEL_STORE": ("store", read_store_variable),
    "--out": ("store", lambda address: parse_arguments("make-sample-inputs", "--out", address)),
    "source": ("data set", lambda address: build_recipe("smoke", {"source": address})),
    "more_sources": ("data set", lambda address: build_recipe("smoke", {"more_sources": [address]})),
    "demo --data": ("data set", lambda address: parse_demo_argument("--data", address)),
    "bert_model": ("model", lambda address: build_recipe("smoke", {"bert_model": address})),
    "demo --model": ("model", lambda address: parse_demo_argument("--model", address)),
    "biencoder_weights": ("weights", lambda address: build_recipe("smoke", {"biencoder_weights": address})),
    "crossencoder_weights": ("weights", lambda address: build_recipe("smoke", {"crossencoder_weights": address})),
    "make-small-bert --out": (
        "file", lambda address: parse_arguments("make-small-bert", "--data", "x", "--out", address)
    ),
    "make-sample-worlds --out": ("file", lambda address: parse_arguments("make-sample-worlds", "--out", address)),
    "make-small-bert --data": (
        "file", lambda address: parse_arguments("make-small-bert", "--out", "x", "--data", address)
    ),
    "export-blink --out": (
        "file", lambda address: parse_arguments("export-blink", "--run", "s/runs/r", "--out", address)
    ),
    "export --out": (
        "file", lambda address: parse_arguments("export", "--format", "blink", "--run", "s/runs/r", "--out", address)
    ),
    "--config": ("file", lambda address: parse_arguments("pipeline", "--run", "s/runs/r", "--config", address)),
    "ZESHEL_SCRATCH": ("file", use_scratch),
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_option_takes_exactly_the_documented_forms(option: str) -> None:
    kind, use = OPTIONS[option]
    for address, taken in FORMS.items():
        if option.startswith("ZESHEL_") and ("\0" in address or not address):
            continue  # no variable can have the one; with the other, it counts as not set
        if taken[kind]:
            use(address)
            continue
        with pytest.raises(ConfigError) as raised:
            use(address)
        for line in str(raised.value).splitlines():
            assert line.isprintable(), address
            assert option.split()[-1] in line, address


@pytest.mark.parametrize("kind", PARSERS)
def test_parser_takes_exactly_the_documented_forms(kind: str) -> None:
    for address, taken in FORMS.items():
        if taken[kind]:
            assert PARSERS[kind](address).address == address
            continue
        with pytest.raises(ConfigError, match=r"^setting: expected .*, got .*$") as raised:
            located("setting", address, PARSERS[kind])
        assert str(raised.value).isprintable()


@pytest.mark.parametrize("address", WRONG)
@pytest.mark.parametrize("kind", PARSERS)
def test_malformed_address_is_refused(kind: str, address: str) -> None:
    with pytest.raises(ConfigError, match=r"^setting: expected .*, got .*$") as raised:
        located("setting", address, PARSERS[kind])
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("parse", "expected"),
    [
        (local_location, "expected a local path or file:///path"),
        (store_location, "expected a local path, file:///path or s3://bucket/key"),
        (
            source_location,
            "expected a local path, file:///path, s3://bucket/key, https://host/path, "
            "the link to a file on Google Drive or wiki:ADDRESS of a dump",
        ),
        (
            model_location,
            "expected a local path, file:///path, s3://bucket/key or a name on the Hugging Face hub",
        ),
    ],
)
def test_refusal_lists_the_forms_that_are_taken(parse: Callable[[str], Location], expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        parse("gs://bucket/key")


def test_local_path_is_expanded_and_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    paths = {text: location.path for text in LOCAL if isinstance(location := store_location(text), LocalPath)}
    assert list(paths.values()) == [
        Path(path) for path in ("data.tar", "data.tar", "/a/b c", "/home/me/data", "/data/runs/r1", "/a/b c", "/a")
    ]


def test_file_address_keeps_query_and_fragment_characters() -> None:
    location = source_location("file:///a?b#c%23d")
    assert isinstance(location, LocalPath)
    assert location.path == Path("/a?b#c#d")


@pytest.mark.parametrize("address", ["https://host/a b.tar?x y#z w", "https://[::1]:8080?x", "http://hôst/\u00a0.tar"])
def test_web_address_may_have_spaces_after_its_server(address: str) -> None:
    assert source_location(address) == WebAddress(address)


def test_home_of_unknown_user_is_refused() -> None:
    with pytest.raises(ConfigError, match="source: expected the path of an existing user's home directory"):
        located("source", "~nobody-has-this-name/x", source_location)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://bucket/a/b.txt", ("bucket", "a/b.txt")),
        ("s3://bucket/a/b/", ("bucket", "a/b")),
    ],
)
def test_s3_address_has_bucket_and_key(address: str, expected: tuple[str, str]) -> None:
    location = store_location(address)
    assert isinstance(location, S3Address)
    assert (location.bucket, location.key) == expected


@pytest.mark.parametrize("address", ["s3://KEY:canary@bucket/x", "s3://canary@bucket", "s3://KEY:can/canary@bucket/x"])
@pytest.mark.parametrize("parse", {store_location, source_location, model_location, local_location})
def test_credentials_in_s3_address_are_refused_and_not_repeated(parse: Callable[[str], Location], address: str) -> None:
    with pytest.raises(ConfigError) as raised:
        located("setting", address, parse)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("address", ["https://user:canary@[::1/x", "https://user:can/ary:canary@host/x?canary"])
def test_credentials_in_broken_web_address_are_not_repeated(address: str) -> None:
    with pytest.raises(ConfigError) as raised:
        located("bert_model", address, model_location)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("address", DRIVE)
def test_every_form_of_drive_address_names_the_file(address: str) -> None:
    assert source_location(address) == DriveFile(address, FILE_ID, None)


@pytest.mark.parametrize("address", ["https://drive.google.com.evil.example/uc?id=1", "https://example.org/file/d/1"])
def test_other_hosts_are_not_google_drive(address: str) -> None:
    assert source_location(address) == WebAddress(address)


@pytest.mark.parametrize(
    ("address", "repository", "revision"),
    [
        ("bert-base-uncased", "bert-base-uncased", None),
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased", None),
        ("google-bert/bert-base-uncased@v1.0", "google-bert/bert-base-uncased", "v1.0"),
        ("me/bert@refs/pr/1", "me/bert", "refs/pr/1"),
    ],
)
def test_hub_model_may_be_pinned_to_a_revision(address: str, repository: str, revision: str | None) -> None:
    assert model_location(address) == HubModel(address, repository, revision)


@pytest.mark.parametrize("name", ["bert", "me/bert", "me/bert@v1"])
def test_local_directory_takes_precedence_over_hub_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(model_location(name), HubModel)
    (tmp_path / name).mkdir(parents=True)
    assert model_location(name) == LocalPath(name, Path(name))
