"""Hiding the secrets of addresses and of the environment."""

import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from zeshel_tasks.text.redaction import recorded, redacted, secrets_of, without_secrets

CANARY = "canary"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://host/x.tar.bz2", "https://host/x.tar.bz2"),
        ("https://host:8443/a/b", "https://host:8443/a/b"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("s3://bucket/sets/x.tar", "s3://bucket/sets/x.tar"),
        ("/data/user@host/x?y=1", "/data/user@host/x?y=1"),
        ("file:///data/user@host/x?y=1", "file:///data/user@host/x?y=1"),
        ("bert-large-uncased", "bert-large-uncased"),
        ("https://user:canary@host/x", "https://***@host/x"),
        ("https://canary@host:80/x?a=canary#canary", "https://***@host:80/x?***"),
        ("HTTPS://u:canary@HOST?canary", "HTTPS://***@HOST?***"),
        ("https://host/x#canary", "https://host/x#***"),
        ("https://host/x;session=canary", "https://host/x;***"),
        ("ftp://user:canary@host/x", "ftp://***@host/x"),
        ("s3://KEY:can/canary@bucket/x", "s3://***"),
        ("https://user:can/canary@host/x", "https://***"),
        ("https://user:12/canary@host/x", "https://***"),
        ("https://user:12?canary@host/x", "https://***"),
        ("https://user:canary#1@host/x", "https://***"),
        ("https://user:canary\\@host/x", "https://***"),
        ("https:/user:canary@host/x", "https:/***@host/x"),
        ("https:user:canary@host/x", "https:***@host/x"),
        (" https://user:can ary\ncanary@host/x?canary", "https://***@host/x?***"),
        ("https://drive.google.com/uc?export=download&id=1Z", "https://drive.google.com/uc?export=download&id=1Z"),
        ("https://drive.google.com/uc?id=1Z&resourcekey=canary", "https://drive.google.com/uc?id=1Z&***"),
        ("https://drive.google.com.evil/uc?id=canary", "https://drive.google.com.evil/uc?***"),
    ],
)
def test_address_is_printed_without_secrets(address: str, shown: str) -> None:
    assert without_secrets(address) == shown
    assert without_secrets(shown) == shown
    assert CANARY not in shown


def test_secrets_of_addresses_in_a_text_are_hidden() -> None:
    text = "got 'https://u:canary@host/x?t=canary': see (http://a.b/c?canary), s3://b/k; and mailto:x@y."
    assert redacted(text) == "got 'https://***@host/x?***': see (http://a.b/c?***), s3://b/k; and mailto:x@y."


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", "canary/canary+1", "canary/canary+1"),
        ("AWS_SESSION_TOKEN", "canary-canary", "canary-canary"),
        ("HF_TOKEN", "hf_canary-canary", "hf_canary-canary"),
        ("https_proxy", "http://user:canary-canary@proxy:3128", "canary-canary"),
        ("HTTP_PROXY", "user:canary%2Dcanary@proxy:3128", "canary-canary"),
    ],
)
def test_secret_variables_are_recognized_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, secret: str
) -> None:
    assert redacted(f"sent {secret}") == f"sent {secret}"
    monkeypatch.setenv(name, value)
    assert redacted(f"sent {secret}, twice: {secret}") == "sent ***, twice: ***"


@pytest.mark.parametrize(
    "value",
    ["canarycanary\n", "\t canarycanary\r\n", 'canary"canary\\\n', "it's canarycanary\n", "canarycanary\x01é\n",
     "canary/+can ary=\n", "canarycanary1\ncanarycanary2\n"],
)  # fmt: skip
@pytest.mark.parametrize(
    "shown",
    [str, str.strip, repr, ascii, json.dumps, lambda value: repr(value.encode()), lambda value: repr(f"Bearer {value}"),
     lambda value: repr(f"Bearer {value}".encode()), lambda value: repr({"token": value}),
     lambda value: repr(repr(value)), quote, quote_plus, lambda value: quote(value.strip(), safe="")],
)  # fmt: skip
def test_secret_is_hidden_as_libraries_show_it(
    monkeypatch: pytest.MonkeyPatch, value: str, shown: Callable[[str], str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", value)
    text = shown(value)
    assert "can" in text
    assert "can" not in redacted(f"Invalid header value: {text}")


def test_password_in_the_address_of_any_variable_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:canarycanary@host\n")
    assert redacted("sent b'canarycanary'") == "sent b'***'"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("HTTPS_PROXY", "http://proxy:3128"),
    ],
)
def test_other_variables_are_not_hidden(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert redacted(f"with {value}") == f"with {value}"


def test_recorded_settings_hide_only_secrets_in_addresses() -> None:
    settings = {"source": "https://u:canary@h/x", "sha256": None, "timeout_seconds": 60.0, "shuffle": True}
    assert recorded(settings) == {**settings, "source": "https://***@h/x"}


def test_secrets_of_an_address_are_listed_for_masking() -> None:
    assert secrets_of("https://u:can%40ary@h/x?t=canary") == {
        "u:can%40ary",
        "u:can@ary",
        "can%40ary",
        "can@ary",
        "t=canary",
    }
    assert secrets_of("https://h/x") == secrets_of("/x") == secrets_of("s3://b/x") == set()


def test_redaction_takes_linear_time() -> None:
    text = "a" * 2_000_000 + "://" * 100_000
    assert redacted(text)[:1000] == "a" * 1000
