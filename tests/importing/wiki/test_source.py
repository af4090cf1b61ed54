"""Dumps of wikis as sources of the recipe: ``wiki:ADDRESS``."""

import bz2
import re
from collections.abc import Iterable
from pathlib import Path

import boto3
import pytest

from tests.importing.wiki.dumps import dump, page, towns
from tests.support.faults import Fault
from zeshel_tasks.cli import main
from zeshel_tasks.config.data import DownloadConfig
from zeshel_tasks.download.metrics import DownloadMetrics
from zeshel_tasks.download.sources import identities
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA
from zeshel_tasks.location import WikiDump, source_location
from zeshel_tasks.store import Artifact, open_run
from zeshel_tasks.text.redaction import redacted, without_secrets


def downloaded(tmp_path: Path, sources: Iterable[str], *flags: str) -> Artifact:
    first, *more = sources
    run = str(tmp_path / "store" / "runs" / "first")
    added = [flag for source in more for flag in ("--more_sources", source)]
    assert main(["download", "--run", run, "--source", first, *added, *flags]) == 0
    return open_run(run).artifact("download", tmp_path / "cache")


def test_wikis_are_merged_and_go_whole_to_their_splits(tmp_path: Path) -> None:
    sources = []
    for seed, name in enumerate(("harbours-20261101-pages-articles.xml", "rivers.xml", "hills_pages_current.xml")):
        (tmp_path / name).write_text(towns(20, seed))
        sources.append(f"wiki:{tmp_path / name}")
    found = downloaded(tmp_path, sources, "--worlds_to_splits", "rivers=valid", "--worlds_to_splits", "hills=test",
                       "--worlds_to_splits", "harbours=train")  # fmt: skip
    metrics = DownloadMetrics.model_validate(found.manifest.metrics)
    assert metrics.documents_by_world == {"harbours": 20, "hills": 20, "rivers": 20}
    assert metrics.mentions.keys() == {"train", "valid", "test"}
    assert all(count > 100 for count in metrics.mentions.values())
    assert [source.worlds for source in metrics.sources] == [("harbours",), ("rivers",), ("hills",)]
    assert "Import of a wiki" in found.path("wikis/rivers/index.html").read_text()
    assert main(["convert", "--run", str(tmp_path / "store" / "runs" / "first")]) == 0


def test_wiki_alone_is_divided(tmp_path: Path) -> None:
    (tmp_path / "towns.xml").write_text(towns(40))
    found = downloaded(tmp_path, [f"wiki:{tmp_path}/towns.xml"])
    assert DownloadMetrics.model_validate(found.manifest.metrics).documents_by_world == {
        "towns": 40, "towns-test": 40, "towns-valid": 40,
    }  # fmt: skip


def test_identity_follows_the_dump_and_its_shares(tmp_path: Path) -> None:
    path = tmp_path / "towns.xml"
    path.write_text(towns(20))
    config = DownloadConfig(source=f"wiki:{path}")
    first = identities(config)
    assert first["source"].startswith("sha256:")
    assert identities(config) == first
    others = [
        config.model_copy(update=changed)
        for changed in ({"wiki_shares": "train=1"}, {"worlds_to_splits": ("towns=test",)}, {"source": str(path)})
    ]
    assert len({identities(other)["source"] for other in (config, *others)}) == 4
    path.write_text(towns(20).replace("river", "brook", 1))
    assert identities(config) != first


def test_dump_in_s3(bucket: str, tmp_path: Path) -> None:
    boto3.client("s3").put_object(Bucket=bucket, Key="in/towns-latest.xml", Body=towns(40).encode())
    source = f"wiki:s3://{bucket}/in/towns-latest.xml"
    assert identities(DownloadConfig(source=source))["source"].startswith("etag:")
    assert downloaded(tmp_path, [source]).path("documents/towns.json").is_file()


def parts_of(content: str) -> dict[str, str]:
    """A dump in two parts, of which the later one is first in the order of names."""
    head, *pages, end = re.split("(?=<page>)|(?=</mediawiki>)", content)
    numbered = {"2.xml-p1p9": pages[:9], "10.xml-p10p99": pages[9:]}  # as Wikimedia names them
    return {f"towns-20261101-pages-articles{name}": "".join((head, *some, end)) for name, some in numbered.items()}


def test_dump_in_parts_is_one_wiki(bucket: str, tmp_path: Path) -> None:
    whole, parts, store = tmp_path / "towns.xml", tmp_path / "parts", tmp_path / "store"
    whole.write_text(towns(20))
    parts.mkdir()
    for name, content in parts_of(towns(20)).items():
        (parts / f"{name}.bz2").write_bytes(bz2.compress(content.encode()))
        boto3.client("s3").put_object(Bucket=bucket, Key=f"in/{name}.bz2", Body=(parts / f"{name}.bz2").read_bytes())
    for other in ("towns-20261101-md5sums.txt", ".towns-pages-articles3.xml"):
        (parts / other).touch()
    boto3.client("s3").put_object(Bucket=bucket, Key="in/deep/towns-pages-articles3.xml.bz2", Body=b"x")
    pattern = "towns-*pages-articles*.bz2"
    documents = [
        downloaded(tmp_path, [f"wiki:{source}"]).path("documents/towns.json").read_bytes()
        for source in (whole, parts / pattern, f"s3://{bucket}/in/{pattern}")
    ]
    assert documents[0] == documents[1] == documents[2]
    assert len(list((store / "artifacts" / "download").iterdir())) == 3


def test_identity_of_a_dump_in_parts_follows_each_part(tmp_path: Path) -> None:
    for name, content in parts_of(towns(20)).items():
        (tmp_path / name).write_text(content)
    config = DownloadConfig(source=f"wiki:{tmp_path}/towns-*")
    found = [identities(config)]
    for path in sorted(tmp_path.glob("towns-*")):
        path.write_text(path.read_text().replace("river", "brook", 1))
        found.append(identities(config))
    path.rename(path.with_name("towns-new.xml"))
    found.append(identities(config))
    assert len({identity["source"] for identity in found}) == 4


@pytest.mark.parametrize(("names", "message"), [
    ((), "expected files, got 'wiki:{0}/towns-*': no such files"),
    (("towns-20261101-a.xml", "towns-20261201-b.xml"),
     "towns-20261201-b.xml: parts of several dumps; expected the date 20261101; got 20261201"),
    (("towns-a1.xml-p1p9", "towns-b1.xml-p1p9"), "towns-b1.xml-p1p9: a part with the pages of another"),
    (("towns-a.xml", "towns-b.xml"), "towns-b.xml: a part of another wiki; expected the namespaces of"),
], ids=["none", "dates", "twice", "wikis"])  # fmt: skip
def test_wrong_sets_of_parts_are_refused(
    names: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, word in zip(names, ("Kategorie", "Categoria"), strict=False):
        (tmp_path / name).write_text(towns(9).replace("Kategorie", word))
    command = ["download", "--run", str(tmp_path / "store" / "runs" / "first"), "--source", f"wiki:{tmp_path}/towns-*"]
    assert main(command) == (EXIT_DATA if names else EXIT_CONFIG)
    assert message.format(tmp_path) in capsys.readouterr().out


def test_limits_count_for_all_parts_of_a_dump(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in parts_of(towns(20)).items():
        (tmp_path / name).write_text(content)
    limit = len(content) + 9
    command = ["download", "--run", str(tmp_path / "store" / "runs" / "first"), "--source", f"wiki:{tmp_path}/towns-*"]
    for setting in ("max_download_gb", "max_unpacked_gb"):
        assert main([*command, f"--{setting}", f"{limit / 1e9}"]) == EXIT_DATA
        assert re.search(rf"too large; expected at most {limit:,} bytes .*\({setting}\)", capsys.readouterr().out)
    assert main([*command, "--sha256", "0" * 64]) == EXIT_CONFIG
    assert "sha256: expected none for several files" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "world"), [
    ("enwiki-20261101-pages-articles-multistream.xml.bz2", "enwiki"), ("starwars_pages_current.xml.7z", "starwars"),
    ("my-wiki-latest.xml.gz", "my-wiki"), ("towns.xml", "towns"), ("a%20b.xml", "a b"), ("日本-pages.xml", "日本"),
    ("old_town_2026.xml", "old_town_2026"), ("enwiki-20261101-pages-articles*.xml*.bz2", "enwiki"),
    ("enwiki-*-articles*", "enwiki"), ("enwiki-latest*", "enwiki"), ("towns*.xml", "towns"),
])  # fmt: skip
def test_world_has_the_name_of_the_wiki(name: str, world: str) -> None:
    found = source_location(f"wiki:s3://bucket/dumps/{name}" if "*" in name else f"wiki:https://host/dumps/{name}?x=*")
    assert isinstance(found, WikiDump)
    assert found.world == world


def test_secrets_of_a_dump_s_address_are_hidden() -> None:
    address = "wiki:https://user:password@host/towns.xml?signature=abc"
    assert source_location(address).name == "wiki:https://***@host/towns.xml?***"
    assert without_secrets(address.replace("wiki", "WIKI")) == "WIKI:https://***@host/towns.xml?***"
    assert "password" not in redacted(f"got '{address}'")


def test_wiki_without_links_or_with_too_few_pages_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "towns.xml"
    command = ["download", "--run", str(tmp_path / "store" / "runs" / "first"), "--source", f"wiki:{path}"]
    path.write_text(dump([page(1, "A", "text")]))
    assert main(command) == EXIT_DATA
    assert f"wiki:{path}: no mentions" in capsys.readouterr().out
    path.write_text(dump([page(1, "A", "[[B|x]]"), page(2, "B", "text")]))
    assert main(command) == EXIT_CONFIG
    assert main([*command, "--wiki_shares", "train=2"]) == EXIT_CONFIG
    assert "wiki_shares: " in capsys.readouterr().out


@pytest.mark.parametrize("head", [towns(20).encode(), b"<mediawiki>"], ids=["pages", "none"])
def test_dump_that_is_larger_without_compression_than_allowed_is_refused(
    head: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault
) -> None:
    path = tmp_path / "towns.xml.bz2"
    path.write_bytes(bz2.compress(head + b"x" * 5_000_000))
    fault("input: dump of a wiki that is too large")
    run = str(tmp_path / "store" / "runs" / "first")
    assert main(["download", "--run", run, "--source", f"wiki:{path}", "--max_unpacked_gb", "0.003"]) == EXIT_DATA
    expected = f"wiki:{path}: too large; expected at most 3,000,000 bytes without compression (max_unpacked_gb)"
    assert expected in capsys.readouterr().out
