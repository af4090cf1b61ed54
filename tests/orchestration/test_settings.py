import pytest

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.orchestration.settings import path_safe, read_deployment, run_address

AIRFLOW_RUN_ID = "manual__2026-01-01T00:00:00.123456+00:00"


def test_deployment_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STORE": "s3://b/p", "SCHEDULE": "@weekly", "RETRIES": "5", "DEFAULTS": '{"top": 1}'}.items():
        monkeypatch.setenv(f"ZESHEL_{name}", value)
    deployment = read_deployment()
    assert (deployment.store, deployment.schedule, deployment.retries) == ("s3://b/p", "@weekly", 5)
    assert deployment.defaults == {"top": 1}
    assert deployment.runner == "process"


def test_empty_schedule_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZESHEL_STORE", "/data")
    monkeypatch.setenv("ZESHEL_SCHEDULE", "")
    assert read_deployment().schedule is None


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, ["ZESHEL_STORE", "not set"]),
        ({"STORE": ""}, ["ZESHEL_STORE", "not set"]),
        (
            {"STORE": "gs://b/p"},
            ["ZESHEL_STORE: expected a local path, file:///path or s3://bucket/key; got 'gs://b/p'"],
        ),
        ({"STORE": "s3://b/p\n"}, ["ZESHEL_STORE: expected a name in UTF-8 without control", r"got 's3://b/p\n'"]),
        ({"STORE": "/d", "RUNNER": "docker"}, ["ZESHEL_RUNNER", "'process' or 'kubernetes'", "'docker'"]),
        ({"STORE": "/d", "RETRIES": "-1"}, ["ZESHEL_RETRIES", "greater than or equal to 0", "-1"]),
        ({"STORE": "/d", "DEFAULTS": "{oops"}, ["ZESHEL_DEFAULTS", "JSON"]),
        (
            {"STORE": "/d", "RETRIES": "x", "POOL": "p", "GRACE_SECONDS": "y"},
            ["ZESHEL_RETRIES", "ZESHEL_GRACE_SECONDS"],
        ),
    ],
)
def test_invalid_variable_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: list[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"ZESHEL_{name}", value)
    with pytest.raises(ConfigError) as caught:
        read_deployment()
    for part in named:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NOTIFIER", '{"class": "a.B", "password": "hunter2"}'),
        ("NOTIFIER", '{"class": "a.B", "kwargs": "hunter2"}'),
        ("PODS", '{"image": "x", "namespace": "n", "env": {"NAME": ["hunter2"]}}'),
    ],
)
def test_error_does_not_show_possible_passwords(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv("ZESHEL_STORE", "/d")
    monkeypatch.setenv(f"ZESHEL_{variable}", value)
    with pytest.raises(ConfigError, match=f"ZESHEL_{variable}") as caught:
        read_deployment()
    assert "hunter2" not in str(caught.value)


def test_safe_run_id_is_unchanged() -> None:
    assert run_address("s3://bucket/p/", "demo-1") == "s3://bucket/p/runs/demo-1"


@pytest.mark.parametrize("run_id", [AIRFLOW_RUN_ID, "../../etc", "..", ".hidden", "a b", "ü", "x" * 250, "a\nb", "a/b"])
def test_unsafe_run_id_becomes_one_safe_path_component(run_id: str) -> None:
    name = path_safe(run_id)
    assert name.isascii()
    assert not set(name) & set("/\\:+ \n%?#")
    assert not name.startswith(".")
    assert len(name) < 255


def test_similar_run_ids_have_different_folders() -> None:
    assert len({path_safe(run_id) for run_id in ("a:b", "a+b", "a-b", "a/b", "a::b")}) == 5
