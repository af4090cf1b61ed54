"""What an upgrade must not do: change what Kubernetes does not let change, delete data, make new keys."""

from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import ALL_OF_SERVING, OFFICIAL, SHAPES, TRYING_OUT, Object, Rendered, earlier_copy, render

WITHOUT_SERVING: Object = {**TRYING_OUT, "sampleInputs": {"enabled": True}}
EVERYTHING: Object = {**WITHOUT_SERVING, "retention": {"enabled": True}, "serving": ALL_OF_SERVING}
KEYS = ("fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName")
EXISTING_SECRETS: Object = {
    "standalone": {"enabled": True, "existingSecret": "mine"},
    "store": {"existingSecret": "keys"},
    "serving": {**ALL_OF_SERVING, "adminToken": {"enabled": True, "existingSecret": "token"}},
}
CHANGES: dict[str, Object] = {
    "nothing": {},
    "image": {"images": {"tasks": {"tag": "9.9.9"}}},
    "pull": {"images": {"pullPolicy": "Always", "pullSecrets": ["login"]}},
    "region": {"store": {"region": "eu-west-1"}},
    "account": {"serviceAccounts": {"stages": {"name": "other"}, "airflow": {"name": "another"}}},
    "user": {"stages": {"runAsUser": 1001}},
    "environment": {"stages": {"env": {"HTTPS_PROXY": "http://proxy:3128"}, "secrets": ["more"]}},
    "resources": {"stages": {"data": {"resources": {"limits": {"memory": "9Gi"}}}, "scratchSize": "60Gi"}},
    "placement": {"stages": {"data": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}]}}},
    "ports": {"standalone": {"enabled": True, "service": {"type": "NodePort", "port": 80}}},
    "size": {"devStore": {"enabled": True, "persistence": {"size": "30Gi"}}},
    "service": {"serving": {**ALL_OF_SERVING, "labels": {"team": "search"}, "autoscaling": {"enabled": False}}},
    "no service": {"serving": {"enabled": False}},
}


def fixed_part(item: Object) -> Any:
    """Return the part of an object that Kubernetes refuses to change. A claim's size may grow."""
    spec = item.get("spec", {})
    return {
        "Job": lambda: (spec.get("selector"), spec["template"]),
        "Deployment": lambda: spec["selector"],
        "PersistentVolumeClaim": lambda: {key: value for key, value in spec.items() if key != "resources"},
        "RoleBinding": lambda: item["roleRef"],
        "Secret": lambda: item["type"],
    }.get(item["kind"], lambda: None)()


def by_name(rendered: Rendered) -> dict[tuple[str, str, str], Object]:
    return {(item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item for item in rendered}


def refused(before: Rendered, after: Rendered) -> list[tuple[str, str, str]]:
    old, new = by_name(before), by_name(after)
    return [key for key in old.keys() & new.keys() if fixed_part(old[key]) != fixed_part(new[key])]


@pytest.mark.parametrize("change", CHANGES)
def test_no_upgrade_changes_an_immutable_part(chart: Path, change: str) -> None:
    assert refused(render(chart, EVERYTHING), render(chart, {**EVERYTHING, **CHANGES[change]})) == []


@pytest.fixture(scope="module", params=[0, 1], ids=["last commit", "the one before"])
def earlier_chart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart as one of the last two commits that changed it left it."""
    try:
        return earlier_copy(tmp_path_factory.mktemp("earlier"), request.param)
    except LookupError:
        pytest.skip("no Git history")


@pytest.mark.parametrize("change", ["nothing", "environment", "resources", "ports"])
def test_no_upgrade_from_an_earlier_chart_changes_an_immutable_part(
    chart: Path, earlier_chart: Path, change: str
) -> None:
    """A chart before the service, too."""
    before, after = render(earlier_chart, WITHOUT_SERVING), render(chart, {**EVERYTHING, **CHANGES[change]})
    assert refused(before, after) == []
    kept = {item["metadata"]["name"] for item in after if item["kind"] == "PersistentVolumeClaim"}
    assert kept == {"zeshel-airflow", "zeshel-store"}


def test_job_is_new_exactly_if_its_pod_is(chart: Path) -> None:
    def job(values: Object) -> str:
        (name,) = (item["metadata"]["name"] for item in render(chart, values) if item["kind"] == "Job")
        return str(name)

    same = job(EVERYTHING)
    assert job({**EVERYTHING, "dag": {"retries": 7}, **CHANGES["ports"]}) == same
    changed = ("image", "pull", "region", "account", "user", "environment", "resources", "placement")
    names = [job({**EVERYTHING, **CHANGES[change]}) for change in changed]
    assert len({same, *names}) == len(names) + 1


def test_claims_and_keys_outlive_the_values_that_created_them(chart: Path) -> None:
    kept = {
        item["metadata"]["name"]
        for item in render(chart, EVERYTHING)
        if item["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }
    assert kept == {"zeshel-airflow", "zeshel-store", "zeshel-keys"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (SHAPES["standalone"], {"standalone": {"enabled": True, "existingSecret": "mine"}}),
        (OFFICIAL, {"airflow": {"enabled": True, **dict.fromkeys(KEYS, "mine")}}),
        (EVERYTHING, EXISTING_SECRETS),
        (SHAPES["next to"], {}),
    ],
    ids=["standalone", "official", "everything", "next to"],
)
def test_two_renderings_with_existing_secrets_are_the_same(chart: Path, values: Object, named: Object) -> None:
    values = {**values, **named}
    first, second = (render(chart, values).objects for _ in range(2))
    assert first == second
    assert "Secret" not in {item["kind"] for item in first}


def test_two_renderings_differ_in_generated_secrets_only(chart: Path) -> None:
    first, second = (render(chart, {**EVERYTHING, "stages": {"namespace": "gpu"}}).objects for _ in range(2))
    different = {
        (one["kind"], one["metadata"]["name"]) for one, other in zip(first, second, strict=True) if one != other
    }
    assert different == {("Secret", f"zeshel-{name}") for name in ("keys", "store", "serving-admin")}


def test_development_store_takes_its_credentials_from_an_existing_secret(chart: Path) -> None:
    rendered = render(chart, {**EVERYTHING, "store": {"existingSecret": "keys"}})
    (container,) = rendered.one("Deployment", "zeshel-store")["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
    (job,) = (item for item in rendered if item["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
    airflow = rendered.one("Deployment", "zeshel-airflow")["spec"]["template"]["spec"]["containers"][0]
    assert airflow["envFrom"][-1] == {"secretRef": {"name": "keys"}}
