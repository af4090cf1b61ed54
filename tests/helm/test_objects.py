"""The objects that each kind of installation creates."""

import json
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import (
    ALL_OF_SERVING,
    KUBERNETES,
    NEXT_TO_AIRFLOW,
    OFFICIAL,
    PROGRAM,
    SERVING,
    SHAPES,
    STANDALONE,
    STORE,
    TRYING_OUT,
    Object,
    Rendered,
    merged,
    render,
    rendered_by_program,
    validate,
)
from zeshel_tasks import __version__

ALWAYS = {
    "ConfigMap zeshel-settings",
    "ServiceAccount zeshel-stage",
    "Role zeshel-stage-pods",
    "NetworkPolicy zeshel-stage",
}
OF_STANDALONE = ALWAYS | {
    "RoleBinding zeshel-stage-pods",
    "ServiceAccount zeshel-airflow",
    "ConfigMap zeshel-airflow",
    "ConfigMap zeshel-airflow-files",
    "Secret zeshel-keys",
    "Deployment zeshel-airflow",
    "Service zeshel-airflow",
    "PersistentVolumeClaim zeshel-airflow",
}
OF_OFFICIAL = ALWAYS | {
    "RoleBinding zeshel-stage-pods",
    "ConfigMap zeshel-airflow",
    "Secret zeshel-keys",
    "ConfigMap stand-in",
}
OF_STORE = {
    f"{kind} zeshel-store" for kind in ("Secret", "Deployment", "Service", "NetworkPolicy", "PersistentVolumeClaim")
}
OF_SERVING = ALWAYS | {
    f"{kind} zeshel-serving"
    for kind in ("Deployment", "Service", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget")
}
MORE_OF_SERVING = {
    f"{kind} zeshel-serving" for kind in ("Ingress", "HTTPRoute", "HorizontalPodAutoscaler", "ServiceMonitor")
} | {"Secret zeshel-serving-admin", "ConfigMap zeshel-serving-dashboard"}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (NEXT_TO_AIRFLOW, ALWAYS),
        (STANDALONE, OF_STANDALONE),
        (OFFICIAL, OF_OFFICIAL),
        (TRYING_OUT, OF_STANDALONE | OF_STORE),
        (SERVING, OF_SERVING),
        ({**STORE, "serving": ALL_OF_SERVING}, OF_SERVING | MORE_OF_SERVING),
    ],
    ids=[*SHAPES, "all of serving"],
)
def test_installation_creates_exactly_these_objects(chart: Path, values: dict[str, Any], names: set[str]) -> None:
    assert render(chart, values).names() == names


MORE: Object = {
    "resourceQuota": {"enabled": True, "hard": {"pods": "20"}},
    "sampleInputs": {"enabled": True},
    "retention": {"enabled": True, "keepRuns": 5},
    "serving": ALL_OF_SERVING,
}


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_valid_for_kubernetes(chart: Path, version: str) -> None:
    """Of all kinds of installation, each once."""
    rendered = [item for values in SHAPES.values() for item in render(chart, {**values, **MORE}, kubernetes=version)]
    for item in [item for number, item in enumerate(rendered) if item not in rendered[:number]]:
        validate(item, version)


@pytest.mark.skipif(PROGRAM is None, reason="no program helm")
@pytest.mark.parametrize("shape", SHAPES)
def test_program_helm_makes_the_same_objects(chart: Path, tmp_path: Path, shape: str) -> None:
    """Of any version from 3.6 on. Only Helm 4 is at hand everywhere."""
    values = {**SHAPES[shape], **MORE}
    found = rendered_by_program(chart, values, tmp_path)
    assert sorted(map(without_keys, found)) == sorted(map(without_keys, render(chart, values)))


def without_keys(item: Object) -> str:
    """An object as JSON, without generated keys."""
    return json.dumps({name: value for name, value in item.items() if (item["kind"], name) != ("Secret", "data")})


def test_every_port_names_its_protocol(chart: Path) -> None:
    # Helm 4 uses server-side apply, where Kubernetes 1.20 rejects ports without a protocol.
    rendered = render(chart, {**TRYING_OUT, "serving": ALL_OF_SERVING})
    ports = [port for pod in pods(rendered) for container in pod["containers"] for port in container.get("ports", [])]
    ports += [port for item in rendered if item["kind"] == "Service" for port in item["spec"]["ports"]]
    assert [port.get("protocol") for port in ports] == ["TCP"] * 6


@pytest.mark.parametrize(
    ("release", "name"), [("zeshel", "zeshel-airflow"), ("my-zeshel", "my-zeshel-airflow"), ("x", "x-zeshel-airflow")]
)
def test_names_derive_from_the_release(chart: Path, release: str, name: str) -> None:
    rendered = render(chart, TRYING_OUT, release=release)
    assert rendered.one("Deployment", name)["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"] == release


@pytest.mark.parametrize("shape", SHAPES)
def test_every_object_carries_the_release_labels(chart: Path, shape: str) -> None:
    for item in render(chart, SHAPES[shape]):
        if item["metadata"]["name"] != "stand-in":
            labels = item["metadata"]["labels"]
            assert labels["app.kubernetes.io/name"] == "zeshel"
            assert labels["app.kubernetes.io/instance"] == "zeshel"
            assert labels["app.kubernetes.io/managed-by"] == "Helm"
            assert labels["helm.sh/chart"] == f"zeshel-{__version__}"
            assert labels["app.kubernetes.io/component"]


def test_services_and_policies_select_only_their_own_pods(chart: Path) -> None:
    rendered = render(chart, {**TRYING_OUT, "serving": ALL_OF_SERVING})
    names = ("zeshel-airflow", "zeshel-store", "zeshel-serving")
    labels = {name: rendered.one("Deployment", name)["spec"]["template"]["metadata"]["labels"] for name in names}
    for name in names:
        selector = rendered.one("Service", name)["spec"]["selector"]
        assert rendered.one("Deployment", name)["spec"]["selector"]["matchLabels"] == selector
        assert [other for other in names if selector.items() <= labels[other].items()] == [name]
    for policy, selected in (("zeshel-stage", []), ("zeshel-serving", ["zeshel-serving"])):
        selector = rendered.one("NetworkPolicy", policy)["spec"]["podSelector"]["matchLabels"]
        assert [name for name in names if selector.items() <= labels[name].items()] == selected


# -- pods


@pytest.mark.parametrize("shape", ["standalone", "trying out", "serving"])
def test_pods_meet_the_restricted_standard(chart: Path, shape: str) -> None:
    for pod in pods(render(chart, SHAPES[shape])):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {key for volume in pod["volumes"] for key in volume} <= {
            "name",
            "emptyDir",
            "configMap",
            "persistentVolumeClaim",
        }
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]


USER_FIELDS = ("runAsUser", "runAsGroup", "fsGroup")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"zeshel-airflow": [50000, 0, 0], "zeshel-store": [1000] * 3, "job": [50000] * 3}),
        (
            {"standalone": {"runAsUser": 1001}, "devStore": {"runAsUser": 1002}, "stages": {"runAsUser": 1003}},
            {"zeshel-airflow": [1001, 0, 0], "zeshel-store": [1002] * 3, "job": [1003] * 3},
        ),
        (
            {"standalone": {"runAsUser": ""}, "devStore": {"runAsUser": ""}, "stages": {"runAsUser": ""}},
            dict.fromkeys(("zeshel-airflow", "zeshel-store", "job"), [None] * 3),
        ),
    ],
    ids=["usual", "set", "left to the cluster"],
)
def test_users_can_be_set_or_left_to_the_cluster(chart: Path, values: Object, expected: dict[str, list[int]]) -> None:
    rendered = render(chart, merged(TRYING_OUT, {"sampleInputs": {"enabled": True}}, values))
    found = {
        "job" if item["kind"] == "Job" else item["metadata"]["name"]: item["spec"]["template"]["spec"][
            "securityContext"
        ]
        for item in rendered
        if item["kind"] in {"Deployment", "Job"}
    }
    assert {name: [context.get(field) for field in USER_FIELDS] for name, context in found.items()} == expected
    assert all(context["runAsNonRoot"] for context in found.values())


def test_airflow_has_a_name_for_a_user_that_the_cluster_chose(chart: Path) -> None:
    # Airflow stops if getpass.getuser() finds none, neither here nor in /etc/passwd.
    assert render(chart, STANDALONE).one("ConfigMap", "zeshel-airflow")["data"]["USER"] == "airflow"


def test_only_airflow_gets_an_api_server_token(chart: Path) -> None:
    rendered = render(chart, TRYING_OUT)
    assert rendered.one("ServiceAccount", "zeshel-stage")["automountServiceAccountToken"] is False
    assert rendered.one("ServiceAccount", "zeshel-airflow")["automountServiceAccountToken"] is False
    assert pod_of(rendered, "zeshel-store")["automountServiceAccountToken"] is False
    airflow = pod_of(rendered, "zeshel-airflow")
    assert airflow["automountServiceAccountToken"] is True
    assert airflow["serviceAccountName"] == "zeshel-airflow"


def test_standalone_airflow_has_all_components_and_a_single_pod(chart: Path) -> None:
    rendered = render(chart, STANDALONE)
    deployment = rendered.one("Deployment", "zeshel-airflow")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    pod = deployment["template"]["spec"]
    assert [container["name"] for container in pod["initContainers"]] == ["prepare"]
    commands = {container["name"]: " ".join(container["command"]) for container in pod["containers"]}
    assert set(commands) == {"api-server", "scheduler", "dag-processor", "triggerer"}
    assert all(f"airflow {name}" in command for name, command in commands.items())
    assert all("--skip-serve-logs" in commands[name] for name in ("scheduler", "triggerer"))
    assert all("livenessProbe" in container for container in pod["containers"])


@pytest.mark.parametrize("values", [STANDALONE, OFFICIAL], ids=["standalone", "official"])
def test_api_server_listens_on_every_family_of_addresses(chart: Path, values: Object) -> None:
    # uvicorn binds 0.0.0.0 for IPv4 only and :: for IPv6 only; the empty name is both.
    assert render(chart, values).one("ConfigMap", "zeshel-airflow")["data"]["AIRFLOW__API__HOST"] == ""


def test_all_components_share_settings_keys_and_state(chart: Path) -> None:
    rendered = render(chart, STANDALONE)
    pod = pod_of(rendered, "zeshel-airflow")
    same = [
        {key: container[key] for key in ("image", "envFrom", "env", "volumeMounts")}
        for container in [*pod["initContainers"], *pod["containers"]]
    ]
    assert all(one == same[0] for one in same)
    sources = [next(iter(source.values()))["name"] for source in same[0]["envFrom"]]
    assert sources == ["zeshel-settings", "zeshel-airflow", "zeshel-store"]
    assert same[0]["image"] == f"localhost/zeshel-airflow:{__version__}"
    keys = rendered.one("Secret", "zeshel-keys")["data"]
    assert {variable["valueFrom"]["secretKeyRef"]["key"] for variable in same[0]["env"]} == set(keys)


def test_changed_settings_restart_airflow(chart: Path) -> None:
    def annotations(values: dict[str, Any]) -> dict[str, str]:
        deployment = render(chart, values).one("Deployment", "zeshel-airflow")
        return dict(deployment["spec"]["template"]["metadata"]["annotations"])

    assert annotations(STANDALONE) == annotations(STANDALONE)
    assert annotations(STANDALONE) != annotations({**STANDALONE, "dag": {"retries": 5}})
    assert annotations(STANDALONE) != annotations({**STANDALONE, "standalone": {"enabled": True, "parallelism": 6}})


def test_generated_keys_are_valid_for_airflow(chart: Path) -> None:
    first, second = (render(chart, STANDALONE).one("Secret", "zeshel-keys")["data"] for _ in range(2))
    assert len(urlsafe_b64decode(b64decode(first["fernet-key"]))) == 32
    assert len(b64decode(first["admin-password"])) == 20
    assert len(b64decode(first["jwt-secret"])) == 64  # HS512 needs a secret as long as its hash
    assert all(first[key] != second[key] for key in first)


def test_state_is_on_a_new_claim_an_existing_claim_or_none(chart: Path) -> None:
    def volume(persistence: dict[str, Any]) -> tuple[Object, set[str]]:
        rendered = render(chart, {**STORE, "standalone": {"enabled": True, "persistence": persistence}})
        volumes = {item.pop("name"): item for item in pod_of(rendered, "zeshel-airflow")["volumes"]}
        return volumes["state"], {name for name in rendered.names() if name.startswith("PersistentVolumeClaim")}

    own = volume({"storageClass": "fast", "size": "1Gi"})
    assert own == (
        {"persistentVolumeClaim": {"claimName": "zeshel-airflow"}},
        {"PersistentVolumeClaim zeshel-airflow"},
    )
    assert volume({"existingClaim": "mine"}) == ({"persistentVolumeClaim": {"claimName": "mine"}}, set())
    assert volume({"enabled": False}) == ({"emptyDir": {}}, set())


def test_existing_secret_is_used_instead_of_a_new_one(chart: Path) -> None:
    rendered = render(chart, {**STORE, "standalone": {"enabled": True, "existingSecret": "mine"}})
    assert not any(name.startswith("Secret") for name in rendered.names())
    references = [
        variable["valueFrom"]["secretKeyRef"]["name"]
        for variable in pod_of(rendered, "zeshel-airflow")["containers"][0]["env"]
    ]
    assert set(references) == {"mine"}


def test_placement_and_pull_secrets_reach_the_pod(chart: Path) -> None:
    placement: dict[str, Any] = {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    }
    values = {**STORE, "standalone": {"enabled": True, **placement}, "images": {"pullSecrets": ["login"]}}
    pod = pod_of(render(chart, values), "zeshel-airflow")
    assert {key: pod[key] for key in placement} == placement
    assert pod["imagePullSecrets"] == [{"name": "login"}]


def test_credentials_of_the_development_store_stay_in_its_secret(chart: Path) -> None:
    rendered = render(chart, TRYING_OUT)
    container = pod_of(rendered, "zeshel-store")["containers"][0]
    assert container["image"] == "docker.io/chrislusf/seaweedfs:4.48"
    assert container["command"] == ["weed"]
    assert "-bucket=zeshel" in container["args"]
    assert container["envFrom"] == [{"secretRef": {"name": "zeshel-store"}}]
    assert set(rendered.one("Secret", "zeshel-store")["data"]) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    policy = rendered.one("NetworkPolicy", "zeshel-store")["spec"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": "s3"}]}]


def pods(rendered: Rendered) -> Iterator[Object]:
    for item in rendered:
        if item["kind"] == "Deployment":
            yield item["spec"]["template"]["spec"]


def pod_of(rendered: Rendered, deployment: str) -> Object:
    spec: Object = rendered.one("Deployment", deployment)["spec"]["template"]["spec"]
    return spec
