"""Every secret of a run has a canary, which must not occur in anything that the run writes."""

import json
import socket
import struct
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.download.file_server import FileServer, page, redirect, running, send, status
from tests.security.real_cli import zeshel
from tests.support.faults import Fault
from zeshel_tasks.config.stages import Recipe

CANARY = "canary"
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "canary/of+the/secret/key",
    "AWS_SESSION_TOKEN": "canary//of//the//session//token",
    "HF_TOKEN": "hf_canaryOfTheHub",
    "HTTP_PROXY": "http://proxy-user:canary-of-the-proxy@127.0.0.1:1",
    "NO_PROXY": "127.0.0.1",
}


@pytest.fixture
def server(raw_archive: Path) -> Iterator[FileServer]:
    """A file server that says nothing about its file, so that only the address identifies it."""
    with running(FileServer(raw_archive.read_bytes())) as started:
        started.etag = None
        yield started


def secret(address: str) -> str:
    """Returns an address with a canary in each place for a secret."""
    return address.replace("://", "://canary-user:canary-password@") + "/zeshel.tar.bz2?signature=canary#canary"


def flags(recipe: Recipe, source: str) -> list[str]:
    """Returns the recipe as flags of the command line, with another source."""
    settings = {
        f"{stage}.{name}": value
        for stage, values in recipe.model_dump(exclude={"preset"}).items()
        for name, value in values.items()
        if value is not None
    }
    given = {name: value for name, value in settings.items() if value != ()}  # one flag for each item of a list
    return ["--preset=smoke", *(f"--{name}={value}" for name, value in {**given, "download.source": source}.items())]


def objects(bucket: str) -> dict[str, bytes]:
    """Returns every object of a bucket by its key."""
    client = boto3.client("s3")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [item["Key"] for found in pages for item in found["Contents"]]
    return {key: key.encode() + client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def found_in(left_behind: dict[str, bytes]) -> list[str]:
    return [name for name, content in left_behind.items() if CANARY.encode() in content.lower()]


@pytest.mark.timeout(300)
def test_run_leaves_no_secret_behind(server: FileServer, bucket: str, small_recipe: Recipe, fault: Fault) -> None:
    run = f"s3://{bucket}/store/runs/r1"
    few = ("--convert.max_mentions_per_world=2", "--eval_biencoder.top_k=4")  # the last flag counts
    code, output = zeshel("pipeline", f"--run={run}", *flags(small_recipe, secret(server.address)), *few, env=SECRETS)
    assert code == 0, output[-3000:]
    left_behind = objects(bucket) | {"output": output.encode()}
    for arguments in (["show"], ["show", "--json"]):
        left_behind[" ".join(arguments)] = zeshel(*arguments, f"--run={run}", env=SECRETS)[1].encode()
    assert found_in(left_behind) == []

    # The secrets were used, their places were searched, and the search would have found them.
    assert {request.headers["Authorization"] for request in server.requests} == {
        "Basic Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXBhc3N3b3Jk"
    }
    assert {request.path for request in server.requests} == {"/zeshel.tar.bz2?signature=canary"}
    manifest, report = (
        next(content for key, content in left_behind.items() if part in key and key.endswith(end))
        for part, end in (("artifacts/download", "manifest.json"), ("runs/r1/report", "index.html"))
    )
    shown = secret(server.address).replace("canary-user:canary-password", "***").partition("?")[0].encode()
    assert shown in manifest
    assert shown in report
    assert "DEBUG: " in output
    assert "AWS4-HMAC-SHA256" in output  # botocore's debug log, whose headers contain the session token
    assert found_in(left_behind | {"planted": b"x" + SECRETS["AWS_SESSION_TOKEN"].encode()}) == ["planted"]
    fault("secrets: in a whole run", len(SECRETS) + 4)


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Breaks the connection without an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def endless(address: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return redirect(f"{address}/again?token=canary")


Script = Callable[[str], list[Any]]
FAILURES: dict[str, tuple[Script, int]] = {
    "403": (lambda _: [status(403)], 2),
    "404": (lambda _: [status(404)], 2),
    "503": (lambda _: [status(503)], 75),
    "reset": (lambda _: [reset], 75),
    "a page": (lambda _: [page("<html><title>Sign in</title>")], 3),
    "no archive": (lambda _: [lambda handler: send(handler, 200, b"no archive")], 3),
    "a redirect to a refusal": (lambda server: [redirect(f"{server}/else?token=canary"), status(403)], 2),
    "redirects for ever": (lambda server: [endless(server)], 2),
    "a redirect to another scheme": (lambda _: [redirect("ftp://canary:canary@host/x?token=canary")], 2),
    "a redirect to nonsense": (lambda _: [redirect("http://canary:canary@host:canary/")], 75),
    "a redirect to where nobody listens": (lambda _: [redirect("http://canary@127.0.0.1:1/?canary")], 75),
    "an entity tag that is not ASCII": (lambda _: [lambda handler: send(handler, 200, b"x", {"ETag": '"é"'})], 3),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_failed_download_reveals_no_secret(server: FileServer, tmp_path: Path, kind: str, fault: Fault) -> None:
    script, expected = FAILURES[kind]
    server.script = script(server.address) * 100
    code, output = zeshel("download", f"--run={tmp_path}/runs/r", f"--source={secret(server.address)}", env=SECRETS)
    assert code == expected, output[-3000:]
    assert "ERROR: " in output
    assert "Traceback" not in output
    assert found_in({"output": output.encode()}) == []
    fault("secrets: in a download that fails")


@pytest.mark.parametrize(
    "source",
    [
        "ftp://user:canary@host/x?token=canary",
        "htps://user:canary@host/x?token=canary",
        "https:/user:canary@host/x?token=canary",
        "https://user:can/canary@host/x",
        "https://user:pass@host:canary/x",
        "https://[canary@host/x",
        "https://user:canary@/x?canary",
        "file://canary:canary@host/x",
        "s3://canary:canary@bucket/x",
        "s3://key:canary@",
        "https://drive.google.com/drive/folders/1?resourcekey=canary",
        "https://user:canary@drive.google.com/uc",
    ],
)
@pytest.mark.parametrize("setting", ["--source", "--sorce"])
def test_wrong_address_is_refused_without_its_secrets(
    tmp_path: Path, setting: str, source: str, capsys: pytest.CaptureFixture[str], fault: Fault
) -> None:
    from zeshel_tasks.cli import main

    assert main(["download", f"--run={tmp_path}/runs/r", f"{setting}={source}"]) == 2
    output = capsys.readouterr().out
    assert "ERROR: " in output
    assert CANARY not in output.replace(str(tmp_path), "")
    fault("secrets: in a wrong address")


def test_crash_traceback_hides_secrets(tmp_path: Path) -> None:
    import subprocess
    import sys

    crash = (
        "import sys, zeshel_tasks.cli as cli\n"
        "def crash(*_): raise RuntimeError(f'no {sys.argv[-1]}')\n"
        "cli.run_stage = crash\n"
        "cli.main(['download', '--run=runs/r'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", crash, "https://user:canary@host/x"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "RuntimeError: no https://***@host/x" in ended.stderr
    assert CANARY not in ended.stderr


def test_query_of_address_changes_source_identity(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zeshel_tasks.config.data import DownloadConfig
    from zeshel_tasks.download.fetch import source_identity

    server.script = [status(405)] * 4
    same, other = (f"{server.address}/x?file={name}" for name in ("canary", "other"))
    identities = [source_identity(address, DownloadConfig()) for address in (same, same, other)]
    assert identities[0] == identities[1] != identities[2]
    assert CANARY not in json.dumps(identities)
