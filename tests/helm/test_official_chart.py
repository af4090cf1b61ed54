"""The conditions and values under which Airflow's official chart is installed, tested with a stand-in for that chart.

See :mod:`tests.helm.chart`.
"""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

import zeshel_tasks
from tests.helm.chart import CHART, Object, Rendered, render
from zeshel_tasks import __version__

VALUES: dict[str, Any] = {
    "store": {"address": "s3://bucket/prefix", "existingSecret": "zeshel-store"},
    "airflow": {"enabled": True},
}


def given(rendered: Rendered) -> Object:
    """The values and templates that the stand-in received."""
    data: Object = rendered.one("ConfigMap", "stand-in")["data"]
    return data


def test_official_chart_is_pinned() -> None:
    dependency = yaml.safe_load((CHART / "Chart.yaml").read_text())["dependencies"][0]
    assert dependency == {
        "name": "airflow",
        "version": "1.22.0",
        "repository": "https://airflow.apache.org",
        "condition": "airflow.enabled",
    }


def test_versions_match_the_package_and_the_tested_airflow(chart: Path) -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == zeshel_tasks.__version__
    values = json.loads(given(render(chart, VALUES))["values"])
    assert values["images"]["airflow"]["tag"] == zeshel_tasks.__version__
    assert values["airflowVersion"] == importlib.metadata.version("apache-airflow")


def test_official_chart_is_installed_only_if_enabled(chart: Path) -> None:
    assert "ConfigMap stand-in" in render(chart, VALUES).names()
    assert "ConfigMap stand-in" not in render(chart, {"store": VALUES["store"]}).names()


def test_official_chart_gets_our_values_and_the_users(chart: Path) -> None:
    values = json.loads(
        given(render(chart, {**VALUES, "airflow": {"enabled": True, "flower": {"enabled": True}}}))["values"]
    )
    assert values["airflowVersion"] == "3.3.2"
    assert values["executor"] == "LocalExecutor"
    assert values["images"]["airflow"] == {"repository": "localhost/zeshel-airflow", "tag": __version__}
    assert values["allowPodLaunching"] is False
    assert values["triggerer"]["enabled"] is True
    assert values["flower"] == {"enabled": True}
    assert values["postgresql"] == {"enabled": True}


def test_airflow_components_get_settings_and_credentials(chart: Path) -> None:
    for release, name in (("zeshel", "zeshel"), ("prod", "prod-zeshel")):
        values = {**VALUES, "store": {"address": "s3://bucket/prefix", "existingSecret": f"{name}-store"}}
        assert yaml.safe_load(given(render(chart, values, release=release))["envFrom"]) == [
            {"configMapRef": {"name": f"{name}-settings"}},
            {"configMapRef": {"name": f"{name}-airflow"}},
            {"secretRef": {"name": f"{name}-store", "optional": True}},
        ]


def test_other_store_secret_can_be_named(chart: Path) -> None:
    sources = "\n".join(
        f"- {kind}:\n    name: {name}"
        for kind, name in (
            ("configMapRef", '{{ include "zeshel.fullname" . }}-settings'),
            ("configMapRef", "'zeshel-airflow'"),
            ("secretRef", '"mine"'),
        )
    )
    store = {"address": "s3://bucket/prefix", "existingSecret": "mine"}
    rendered = render(chart, {"store": store, "airflow": {"enabled": True, "extraEnvFrom": sources}})
    assert yaml.safe_load(given(rendered)["envFrom"])[2] == {"secretRef": {"name": "mine"}}


def test_migration_job_creates_the_pool(chart: Path) -> None:
    rendered = render(chart, VALUES)
    shell, flag, command = yaml.safe_load(given(rendered)["args"])
    assert (shell, flag) == ("bash", "-c")
    assert command == (
        'airflow db migrate && airflow pools set "$ZESHEL_POOL" "$ZESHEL_POOL_SLOTS" '
        '"Pods of zeshel\'s stages" --include-deferred'
    )
    assert {"ZESHEL_POOL", "ZESHEL_POOL_SLOTS"} <= rendered.one("ConfigMap", "zeshel-settings")["data"].keys()
    assert "The pool is not created" not in rendered.notes
    own = {"enabled": True, "migrateDatabaseJob": {"args": ["airflow", "db", "migrate"]}}
    assert "The pool is not created" in render(chart, {**VALUES, "airflow": own}).notes


def test_migration_job_without_our_variables_names_the_pool_itself(chart: Path) -> None:
    job: Object = {"applyCustomEnv": False, "useHelmHooks": False}
    values = {**VALUES, "dag": {"pool": {"name": "gpus", "slots": 5}}, "airflow": {"enabled": True}}
    values["airflow"]["migrateDatabaseJob"] = job
    command = 'airflow pools set "gpus" 5 "Pods of zeshel\'s stages" --include-deferred'
    with pytest.raises(helm_python.HelmRenderError) as caught:
        render(chart, values)
    assert "airflow.migrateDatabaseJob.args: expected the pool itself" in str(caught.value)
    assert command in str(caught.value)
    job["args"] = ["bash", "-c", f"airflow db migrate && {command}"]
    rendered = render(chart, values)
    assert "The pool is not created" not in rendered.notes
    assert yaml.safe_load(given(rendered)["args"]) == job["args"]


def test_task_logs_go_to_the_store(chart: Path) -> None:
    data = render(chart, VALUES).one("ConfigMap", "zeshel-airflow")["data"]
    assert data["AIRFLOW__LOGGING__REMOTE_LOGGING"] == "True"
    assert data["AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER"] == "s3://bucket/prefix/airflow-logs"
    assert data["AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID"] == ""
    assert not [name for name in data if "SQL_ALCHEMY" in name or "EXECUTOR" in name]


def test_keys_are_generated_unless_the_user_names_others(chart: Path) -> None:
    secret = render(chart, VALUES).one("Secret", "zeshel-keys")
    assert set(secret["data"]) == {"fernet-key", "api-secret-key", "jwt-secret"}
    assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    names = dict.fromkeys(("fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName"), "mine")
    rendered = render(chart, {**VALUES, "airflow": {"enabled": True, **names}})
    assert not [name for name in rendered.names() if name.startswith("Secret")]


def test_lint_reports_only_the_missing_official_chart() -> None:
    report = helm_python.lint(CHART, {}, strict=True)
    problems = [message["error"] for message in report["messages"] if message["severity"] > 1]
    assert all("missing these dependencies: airflow" in problem for problem in problems)
