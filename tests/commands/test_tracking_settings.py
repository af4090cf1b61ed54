"""Wrong settings of MLflow's client."""

from __future__ import annotations

from pathlib import Path

import pytest

from zeshel_tasks.commands.tracking import track_run
from zeshel_tasks.errors import ConfigError


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("MLFLOW_TRACKING_URI", "http://u:canary@[::1", "the address of an MLflow server, got 'http://***'"),
        ("MLFLOW_TRACKING_URI", "http://host:99999", "the address of an MLflow server, got 'http://host:99999'"),
        ("MLFLOW_TRACKING_URI", "http://host:", "the address of an MLflow server, got 'http://host:'"),
        ("MLFLOW_TRACKING_URI", "http:/host", "the address of an MLflow server, got 'http:/host'"),
        ("MLFLOW_TRACKING_URI", "https://", "the address of an MLflow server, got 'https://'"),
        ("MLFLOW_TRACKING_URI", "HTTP://a b", "the address of an MLflow server, got 'HTTP://a b'"),
        ("MLFLOW_TRACKING_URI", "http://host\n", "the address of an MLflow server, got 'http://host\\n'"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "ten", "another value, got 'ten'"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1.5", "another value, got '1.5'"),
        ("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "x", "another value, got 'x'"),
    ],
)
def test_wrong_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as error:
        track_run(str(tmp_path / "runs" / "r"))
    assert str(error.value).startswith(f"{variable}: expected {expected}")
