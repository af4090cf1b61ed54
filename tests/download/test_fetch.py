import hashlib
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import boto3
import pytest

from tests.download.file_server import ETAG, FileServer, page, redirect, running, send, status
from zeshel_tasks.config.data import DownloadConfig
from zeshel_tasks.download.fetch import fetch, source_identity
from zeshel_tasks.download.s3_source import S3Source
from zeshel_tasks.download.transfer import Fetched, Retry
from zeshel_tasks.errors import ConfigError, DataError, StoreUnavailable
from zeshel_tasks.location import S3Address, source_location

CONTENT = b"BZh9" + bytes(range(256)) * 2000
FETCHED = Fetched(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
CONFIG = DownloadConfig()
AT_ONCE = Retry(tries=4, first_wait=0.0)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running(FileServer(CONTENT)) as started:
        yield started


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def get(source: str, target: Path, config: DownloadConfig = CONFIG) -> Fetched:
    return fetch(source, target, config, retry=AT_ONCE)


class TestALocalFile:
    @pytest.fixture
    def local(self, tmp_path: Path) -> Path:
        path = tmp_path / "my data.tar.bz2"
        path.write_bytes(CONTENT)
        return path

    def test_is_copied(self, local: Path, target: Path) -> None:
        assert get(str(local), target) == FETCHED
        assert target.read_bytes() == CONTENT

    def test_may_be_given_as_file_address(self, local: Path, target: Path) -> None:
        assert get(local.as_uri(), target) == FETCHED

    def test_is_identified_by_its_content(self, local: Path) -> None:
        assert source_identity(str(local), CONFIG) == f"sha256:{FETCHED.sha256}"
        local.write_bytes(b"other")
        assert source_identity(local.as_uri(), CONFIG) == f"sha256:{hashlib.sha256(b'other').hexdigest()}"

    @pytest.mark.parametrize("name", ["nowhere.tar", "."])
    def test_missing_file_or_folder_is_a_config_error(self, tmp_path: Path, target: Path, name: str) -> None:
        with pytest.raises(ConfigError, match="source: expected a file"):
            get(str(tmp_path / name), target)

    def test_on_another_host_is_a_config_error(self, target: Path) -> None:
        with pytest.raises(ConfigError, match="this machine"):
            get("file://elsewhere/data.tar", target)

    @pytest.mark.parametrize("name", ["/proc/self/mem", "/proc/self/pagemap", "empty"])
    def test_file_without_content_is_refused_at_once(self, tmp_path: Path, target: Path, name: str) -> None:
        """Files of the system have no size, and reading one may fail or never end."""
        (tmp_path / "empty").touch()
        for use in (lambda: get(str(tmp_path / name), target), lambda: source_identity(str(tmp_path / name), CONFIG)):
            with pytest.raises(DataError, match=f"{name}: not a tar archive.*: an empty file"):
                use()

    def test_time_to_hash_it_is_limited(self, tmp_path: Path) -> None:
        """Airflow asks for the identity, too, and gives up soon."""
        (tmp_path / "data.tar").write_bytes(b"data")
        config = CONFIG.model_copy(update={"max_download_minutes": 0.0})
        with pytest.raises(StoreUnavailable, match="took longer than 0 minutes"):
            source_identity(str(tmp_path / "data.tar"), config)

    def test_file_that_cannot_be_read_is_a_config_error(self, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        of_a_file = Path(__file__).stat()
        monkeypatch.setattr(Path, "stat", lambda path, **options: of_a_file)  # so that it seems to have a size
        for use in (lambda: get("/proc/self/mem", target), lambda: source_identity("/proc/self/mem", CONFIG)):
            with pytest.raises(ConfigError, match="source: expected a readable file, got '/proc/self/mem'"):
                use()

    def test_with_expected_hash_is_accepted_in_either_case(self, local: Path, target: Path) -> None:
        config = DownloadConfig(sha256=FETCHED.sha256.upper())
        assert get(str(local), target, config) == FETCHED
        assert source_identity(str(local), config) == f"sha256:{FETCHED.sha256}"

    def test_with_wrong_hash_is_refused(self, local: Path, target: Path) -> None:
        with pytest.raises(DataError, match=f"expected SHA-256 {'0' * 64}; got {FETCHED.sha256}"):
            get(str(local), target, DownloadConfig(sha256="0" * 64))

    def test_over_size_limit_is_refused(self, local: Path, target: Path) -> None:
        with pytest.raises(DataError, match=r"too large; expected at most 1,000 bytes \(max_download_gb\)"):
            get(str(local), target, DownloadConfig(max_download_gb=1e-6))


@pytest.mark.parametrize("source", ["ftp://host/data.tar", "gs://bucket/data.tar", "ssh://host/x"])
def test_unsupported_scheme_error_lists_allowed_schemes(source: str, target: Path) -> None:
    with pytest.raises(ConfigError, match="a local path, file:///path, s3://bucket/key, https://host/path or the link"):
        get(source, target)


class TestAnHttpAddress:
    def test_is_fetched(self, server: FileServer, target: Path) -> None:
        assert get(f"{server.address}/data.tar.bz2", target) == FETCHED
        assert target.read_bytes() == CONTENT

    def test_may_be_redirected(self, server: FileServer, target: Path) -> None:
        server.script = [redirect("/elsewhere?x=1")]
        assert get(server.address, target) == FETCHED
        assert [request.path for request in server.requests] == ["/", "/elsewhere?x=1"]

    def test_endless_redirect_is_a_config_error(self, server: FileServer, target: Path) -> None:
        server.script = [redirect("/again")] * 100
        with pytest.raises(ConfigError, match="redirects"):
            get(server.address, target)
        assert len(server.requests) < 30

    def test_redirect_to_local_file_is_a_config_error(self, server: FileServer, target: Path) -> None:
        server.script = [redirect("file:///etc/passwd")]
        with pytest.raises(ConfigError, match="source: "):
            get(server.address, target)

    @pytest.mark.parametrize("code", [429, 500, 503])
    def test_temporary_failure_is_retried(
        self, server: FileServer, target: Path, code: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.script = [status(code, Retry_After="0"), status(code)]
        assert get(server.address, target) == FETCHED
        assert len(server.requests) == 3
        assert f"answer {code}" in caplog.text

    def test_persistent_failure_is_unavailable(self, server: FileServer, target: Path) -> None:
        server.script = [status(503)] * 10
        with pytest.raises(StoreUnavailable, match=r"gave up after 4 tries; the last: .*503 Service Unavailable"):
            get(server.address, target)
        assert len(server.requests) == 4

    @pytest.mark.parametrize("code", [401, 403, 404, 410])
    def test_client_error_is_a_config_error_without_retry(self, server: FileServer, target: Path, code: int) -> None:
        server.script = [status(code)]
        with pytest.raises(ConfigError, match=f"{server.address}/data: expected a file, got .* {code} "):
            get(f"{server.address}/data", target)
        assert len(server.requests) == 1

    def test_keeps_its_secrets_out_of_messages(self, server: FileServer, target: Path) -> None:
        server.script = [status(403)]
        address = server.address.replace("http://", "http://user:hidden@") + "/data?signature=hidden"
        with pytest.raises(ConfigError) as error:
            get(address, target)
        assert "hidden" not in str(error.value)
        assert server.requests[0].path == "/data?signature=hidden"

    def test_refused_connection_is_unavailable(self, target: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(StoreUnavailable, match="gave up after 4 tries; the last: ConnectError"):
                get(address, target)

    def test_silent_server_is_unavailable(self, server: FileServer, target: Path) -> None:
        done = threading.Event()
        server.script = [lambda handler: (done.wait(20), None)[1]] * 4
        with pytest.raises(StoreUnavailable, match="ReadTimeout"):
            get(server.address, target, DownloadConfig(timeout_seconds=0.05))
        done.set()

    def test_announced_size_over_limit_is_refused(self, server: FileServer, target: Path) -> None:
        server.script = [lambda handler: send(handler, 200, b"x", {"Content-Length": "5000"})]
        with pytest.raises(DataError, match="too large"):
            get(server.address, target, DownloadConfig(max_download_gb=1e-6))

    def test_body_over_limit_is_refused_while_downloading(self, server: FileServer, target: Path) -> None:
        def endless(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(CONTENT)

        server.script = [endless]
        with pytest.raises(DataError, match="too large"):
            get(server.address, target, DownloadConfig(max_download_gb=1e-5))
        assert target.stat().st_size <= 10_000

    def test_without_content_length_is_fetched(self, server: FileServer, target: Path) -> None:
        def close_ends_it(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(CONTENT)

        server.script = [close_ends_it]
        assert get(server.address, target) == FETCHED

    @pytest.mark.parametrize(
        "html", ["<!DOCTYPE html><title> Sign in </title>", "\n <html><head><title>Sign in</title>"]
    )
    @pytest.mark.parametrize("kind", ["text/html", "application/x-bzip2"])
    def test_web_page_is_a_data_error(self, server: FileServer, target: Path, html: str, kind: str) -> None:
        server.script = [page(html, Content_Type=kind)]
        with pytest.raises(
            DataError, match="not an archive; expected a tar archive; got an HTML page titled 'Sign in'"
        ):
            get(server.address, target)

    def test_archive_served_as_html_is_fetched(self, server: FileServer, target: Path) -> None:
        server.script = [lambda handler: send(handler, 200, CONTENT, {"Content-Type": "text/html"})]
        assert get(server.address, target) == FETCHED


class TestABrokenBody:
    def test_is_resumed_where_it_broke(self, server: FileServer, target: Path) -> None:
        server.script = [partial(server.serve, cut_after=100_000), partial(server.serve, cut_after=200_000)]
        assert get(server.address, target) == FETCHED
        assert target.read_bytes() == CONTENT
        ranges = [(request.headers["Range"], request.headers["If-Range"]) for request in server.requests]
        assert ranges == [(None, None), ("bytes=100000-", ETAG), ("bytes=300000-", ETAG)]

    def test_is_resumed_without_etag_if_size_is_the_same(self, server: FileServer, target: Path) -> None:
        server.etag = None
        server.script = [partial(server.serve, cut_after=100_000)]
        assert get(server.address, target) == FETCHED
        assert server.requests[1].headers["Range"] == "bytes=100000-"

    def test_starts_over_if_server_cannot_resume(self, server: FileServer, target: Path) -> None:
        server.script = [partial(server.serve, cut_after=100_000), lambda handler: send(handler, 200, CONTENT)]
        assert get(server.address, target) == FETCHED
        assert target.read_bytes() == CONTENT

    @pytest.mark.parametrize("size", [len(CONTENT), 50_000])
    def test_starts_over_if_file_has_changed(self, server: FileServer, target: Path, size: int) -> None:
        server.script = [partial(server.serve, cut_after=100_000)]
        other = CONTENT[::-1][:size]

        def change(handler: BaseHTTPRequestHandler) -> None:
            server.content, server.etag = other, '"v2"'
            server.serve(handler)

        server.script.append(change)
        assert get(server.address, target).sha256 == hashlib.sha256(other).hexdigest()
        assert target.read_bytes() == other

    @pytest.mark.parametrize("wrong", ["bytes 7-512003/512004", "bytes 100000-512005/512006", "bytes */512004", ""])
    def test_starts_over_on_wrong_content_range(self, server: FileServer, target: Path, wrong: str) -> None:
        server.script = [
            partial(server.serve, cut_after=100_000),
            lambda handler: send(handler, 206, CONTENT[100_000:], {"Content-Range": wrong}),
        ]
        assert get(server.address, target) == FETCHED
        assert server.requests[2].headers["Range"] is None

    def test_starts_over_if_range_is_refused(self, server: FileServer, target: Path) -> None:
        server.script = [partial(server.serve, cut_after=100_000), status(416)]
        assert get(server.address, target) == FETCHED
        assert server.requests[2].headers["Range"] is None

    def test_is_unavailable_after_repeated_breaks(self, server: FileServer, target: Path) -> None:
        server.script = [partial(server.serve, cut_after=1000)] * 10
        with pytest.raises(StoreUnavailable, match="gave up after 4 tries"):
            get(server.address, target)

    def test_progress_resets_count_of_tries(self, server: FileServer, target: Path) -> None:
        server.content = CONTENT * 20
        server.script = [partial(server.serve, cut_after=1_100_000)] * 9
        assert get(server.address, target).size == len(server.content)
        assert target.read_bytes() == server.content
        assert len(server.requests) == 10


class TestTheIdentityOfAnHttpAddress:
    def test_is_its_etag(self, server: FileServer) -> None:
        identity = source_identity(server.address, CONFIG)
        assert identity == f"etag:{ETAG} {len(CONTENT)} bytes {server.address}"
        assert [request.method for request in server.requests] == ["HEAD"]

    def test_is_its_date_without_etag(self, server: FileServer) -> None:
        server.script = [status(200, Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")]
        identity = source_identity(server.address, CONFIG)
        assert identity == f"last-modified:Mon, 01 Jan 2024 00:00:00 GMT 2 bytes {server.address}"

    def test_distinguishes_files_with_the_same_date(self, server: FileServer) -> None:
        """Like files that were copied to a server at the same time."""
        server.script = [status(200, Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")] * 3
        one, other, signed = (source_identity(f"{server.address}/{name}", CONFIG) for name in ("a", "b", "a?X-Sig=1"))
        assert one != other
        assert one == signed, "a signature is another one each time"

    @pytest.mark.parametrize("code", [200, 403, 405])
    def test_falls_back_to_the_address(self, server: FileServer, code: int, caplog: pytest.LogCaptureFixture) -> None:
        server.script = [status(code)]
        assert source_identity(f"{server.address}/data", CONFIG) == f"address:{server.address}/data"
        assert "a new file at this address will not be noticed" in caplog.text

    def test_is_retried_after_temporary_failure(self, server: FileServer) -> None:
        server.script = [status(503)]
        assert source_identity(server.address, CONFIG, retry=AT_ONCE).startswith(f"etag:{ETAG} ")

    def test_is_not_guessed_while_server_is_down(self, server: FileServer) -> None:
        server.script = [status(503)] * 10
        with pytest.raises(StoreUnavailable):
            source_identity(server.address, CONFIG, retry=AT_ONCE)

    def test_is_the_configured_hash_without_request(self, server: FileServer) -> None:
        assert source_identity(server.address, DownloadConfig(sha256="AB" * 32)) == f"sha256:{'ab' * 32}"
        assert server.requests == []


class TestAnS3Address:
    @pytest.fixture
    def address(self, bucket: str) -> str:
        boto3.client("s3").put_object(Bucket=bucket, Key="sets/data.tar.bz2", Body=CONTENT)
        return f"s3://{bucket}/sets/data.tar.bz2"

    def test_is_fetched(self, address: str, target: Path) -> None:
        assert get(address, target) == FETCHED
        assert target.read_bytes() == CONTENT

    def test_is_identified_by_its_etag(self, address: str) -> None:
        assert source_identity(address, CONFIG) == f'etag:"{hashlib.md5(CONTENT).hexdigest()}"'

    @pytest.mark.parametrize("call", [get, lambda source, _: source_identity(source, CONFIG)])
    def test_missing_object_is_a_config_error(self, bucket: str, target: Path, call) -> None:  # noqa: ANN001
        for address in (f"s3://{bucket}/missing.tar", f"s3://no-{bucket}/data.tar"):
            with pytest.raises(ConfigError, match=f"no such object: {address}"):
                call(address, target)

    @pytest.mark.parametrize("address", ["s3://", "s3://bucket", "s3://bucket/"])
    def test_must_name_bucket_and_key(self, address: str, target: Path) -> None:
        with pytest.raises(ConfigError, match="expected"):
            get(address, target)

    def test_over_size_limit_is_refused(self, address: str, target: Path) -> None:
        with pytest.raises(DataError, match="too large"):
            get(address, target, DownloadConfig(max_download_gb=1e-6))

    def test_is_resumed_unless_it_has_changed(self, address: str, bucket: str) -> None:
        location = source_location(address)
        assert isinstance(location, S3Address)
        source = S3Source(location)
        with source.open(0) as body:
            assert next(body.chunks)[:4] == b"BZh9"
        with source.open(1000) as body:
            assert (body.start, body.total, b"".join(body.chunks)) == (1000, len(CONTENT), CONTENT[1000:])
        boto3.client("s3").put_object(Bucket=bucket, Key="sets/data.tar.bz2", Body=CONTENT[::-1])
        with source.open(1000) as body:
            assert (body.start, b"".join(body.chunks)) == (0, CONTENT[::-1])
