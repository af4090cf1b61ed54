"""The HTTP service: chart, service and dashboard must stay in step."""

import json
from base64 import b64decode
from pathlib import Path

import helm_python
import pytest

from tests.helm.chart import ALL_OF_SERVING, CHART, SERVING, STORE, TRYING_OUT, Object, merged, nested, render
from tests.helm.served import NAME, container_of, pod_of, serving
from zeshel_tasks.cli import _parser
from zeshel_tasks.commands.serve import TOKEN
from zeshel_tasks.commands.settings_flags import given_settings, with_underscores
from zeshel_tasks.config.link import LinkConfig
from zeshel_tasks.recipe import build_settings
from zeshel_tasks.serving import app
from zeshel_tasks.serving.settings import LINK_SETTINGS, ServeConfig

SCHEMA = json.loads((CHART / "values.schema.json").read_text())["properties"]["serving"]["properties"]
OF_THE_CHART = {"port", "wait"}
"""Settings of the service that no value sets."""


# -- the command


def test_arguments_are_those_of_the_service(chart: Path) -> None:
    settings = {
        "mode": "cascade", "threshold": "precision=0.95", "top_k": 10, "nil_share": 0.3, "tokenized": True,
        "max_waiting_mentions": 1_000_000, "batch_wait_ms": 0.5, "drain_seconds": 60,
    }  # fmt: skip
    rendered = serving(chart, knowledgeBases=["products", "the $(HOME) base"], settings=settings)
    arguments = [argument.replace("$$(", "$(") for argument in container_of(rendered)["args"]]
    options = _parser().parse_args(with_underscores(arguments))
    assert options.kb == ["products", "the $(HOME) base"]
    assert options.store == "s3://bucket/prefix"
    given = dict(given_settings(options))
    service = build_settings(ServeConfig, {name: given.pop(name) for name in ServeConfig.model_fields if name in given})
    linking = build_settings(LinkConfig, given)
    assert (service.host, service.port, service.wait) == ("0.0.0.0", 8000, True)
    found = service.model_dump() | linking.model_dump()
    assert {name: found[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("value", "argument"), [(0.5, "0.5"), (1, "1"), ("0.5", "0.5"), ("precision=0.95", "precision=0.95")]
)
def test_threshold_may_be_a_number_or_a_text(chart: Path, value: object, argument: str) -> None:
    assert f"--threshold={argument}" in container_of(serving(chart, settings={"threshold": value}))["args"]


def test_variable_of_kubernetes_in_a_name_stays_as_it_is(chart: Path) -> None:
    assert "--kb=a$$(HOME)" in container_of(serving(chart, knowledgeBases=["a$(HOME)"]))["args"]


def test_schema_has_the_settings_of_the_service_with_their_bounds() -> None:
    schema = SCHEMA["settings"]["properties"]
    assert set(schema) == ServeConfig.model_fields.keys() - OF_THE_CHART | set(LINK_SETTINGS)
    models = LinkConfig.model_json_schema()["properties"] | ServeConfig.model_json_schema()["properties"]
    compared = 0
    for name in schema.keys() - {"host"}:
        own, theirs = schema[name], models[name]
        for key in ("type", "enum", "minimum", "maximum", "pattern"):
            assert own.get(key) == theirs.get(key) or (key, "enum" in theirs) == ("type", True), f"{key} of {name}"
            compared += key in theirs
        if choices := theirs.get("anyOf"):
            without_null = [choice for choice in choices if choice["type"] != "null"]
            assert [choice for choice in own["anyOf"] if choice in without_null] == without_null
    assert compared > 40


def test_service_listens_at_another_address_if_told(chart: Path) -> None:
    assert "--host=::" in container_of(serving(chart, settings={"host": "::"}))["args"]


def test_pod_is_connected_to_the_store_as_the_stages_are(chart: Path) -> None:
    rendered = render(chart, {**TRYING_OUT, "serving": ALL_OF_SERVING})
    container = container_of(rendered)
    pods = json.loads(rendered.one("ConfigMap", "zeshel-settings")["data"]["ZESHEL_PODS"])
    assert {entry["name"]: entry.get("value") for entry in container["env"]}.items() >= pods["env"].items()
    assert [source["secretRef"]["name"] for source in container["envFrom"]] == pods["secrets"] == ["zeshel-store"]
    assert container["image"] == pods["image"]


def test_threads_are_those_of_the_cpu_limit_unless_the_user_sets_them(chart: Path) -> None:
    env = {entry["name"]: entry for entry in container_of(serving(chart))["env"]}
    assert env["OMP_NUM_THREADS"]["valueFrom"] == {"resourceFieldRef": {"resource": "limits.cpu"}}
    own = {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "ACTIVE"}
    container = container_of(serving(chart, env=own))
    assert container["env"] == [{"name": name, "value": value} for name, value in own.items()]


# -- start and end


def test_probes_ask_what_the_service_answers(chart: Path) -> None:
    container = container_of(serving(chart))
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert probes == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert set(probes.values()) <= {route.path for route in app.api.routes}
    (port,) = container["ports"]
    assert f"--port={port['containerPort']}" in container["args"]
    assert all(container[f"{name}Probe"]["httpGet"]["port"] == port["name"] for name in probes)


@pytest.mark.parametrize(
    ("kubernetes", "hook"),
    [("1.20", {"exec": {"command": ["sleep", "5"]}}), ("1.29", {"exec": {"command": ["sleep", "5"]}})]
    + [(version, {"sleep": {"seconds": 5}}) for version in ("1.30", "1.37")],
)
def test_pod_answers_until_no_node_sends_it_requests(chart: Path, kubernetes: str, hook: Object) -> None:
    assert container_of(serving(chart, kubernetes))["lifecycle"] == {"preStop": hook}
    assert "lifecycle" not in container_of(serving(chart, kubernetes, preStopSeconds=0))


def test_pod_is_killed_after_it_has_drained(chart: Path) -> None:
    usual = ServeConfig.model_fields["drain_seconds"].default
    assert pod_of(serving(chart))["terminationGracePeriodSeconds"] == 5 + usual + 10
    longer = serving(chart, preStopSeconds=20, settings={"drain_seconds": 300})
    assert pod_of(longer)["terminationGracePeriodSeconds"] == 330


def test_no_pod_ends_before_a_new_one_is_ready(chart: Path) -> None:
    strategy = serving(chart).one("Deployment", NAME)["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


@pytest.mark.parametrize(("kubernetes", "version"), [("1.20", "v1beta1"), ("1.21", "v1"), ("1.37", "v1")])
def test_drained_nodes_take_one_pod_at_once(chart: Path, kubernetes: str, version: str) -> None:
    budget = serving(chart, kubernetes).one("PodDisruptionBudget", NAME)
    assert budget["apiVersion"] == f"policy/{version}"
    assert budget["spec"]["maxUnavailable"] == 1
    other = serving(chart, podDisruptionBudget={"maxUnavailable": "25%"}).one("PodDisruptionBudget", NAME)
    assert other["spec"]["maxUnavailable"] == "25%"
    without = serving(chart, podDisruptionBudget={"enabled": False})
    assert f"PodDisruptionBudget {NAME}" not in without.names()


# -- the pod


def test_pod_has_no_token_of_kubernetes_and_writes_to_scratch_only(chart: Path) -> None:
    pod = pod_of(serving(chart))
    assert pod["automountServiceAccountToken"] is False
    assert pod["containers"][0]["volumeMounts"] == [{"name": "scratch", "mountPath": "/scratch"}]
    assert pod["volumes"] == [{"name": "scratch", "emptyDir": {"sizeLimit": "20Gi"}}]


@pytest.mark.parametrize(
    ("account", "name"),
    [({}, NAME), ({"name": "mine"}, "mine"), ({"create": False}, "default"), ({"create": False, "name": "x"}, "x")],
)
def test_pod_has_an_account_of_its_own_or_an_existing_one(chart: Path, account: Object, name: str) -> None:
    store = {**STORE["store"], "serviceAccountAnnotations": {"role": "a"}}
    values = {**SERVING, "store": store, "serviceAccounts": {"serving": account}}
    rendered = render(chart, values)
    assert pod_of(rendered)["serviceAccountName"] == name
    accounts = {item["metadata"]["name"]: item for item in rendered if item["kind"] == "ServiceAccount"}
    assert (name in accounts) == account.get("create", True)
    if name in accounts:
        assert accounts[name]["metadata"]["annotations"] == {"role": "a"}
        assert accounts[name]["automountServiceAccountToken"] is False


def test_pod_gets_a_gpu_if_wanted(chart: Path) -> None:
    resources = {"limits": {"cpu": "2", "memory": "4Gi"}, "requests": {"cpu": "2", "memory": "4Gi"}}
    assert container_of(serving(chart))["resources"] == resources
    resources["limits"]["nvidia.com/gpu"] = "1"
    assert container_of(serving(chart, gpu=True))["resources"] == resources
    other = render(chart, merged(SERVING, nested("serving.gpu", True), nested("stages.gpuResource", "amd.com/gpu")))
    assert container_of(other)["resources"]["limits"]["amd.com/gpu"] == "1"


def test_placement_labels_and_annotations_reach_the_pod(chart: Path) -> None:
    placement: Object = {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "high",
    }
    rendered = serving(chart, **placement, labels={"team": "search"}, annotations={"a": "b"})
    pod = pod_of(rendered)
    assert {key: pod[key] for key in placement} == placement
    metadata = rendered.one("Deployment", NAME)["spec"]["template"]["metadata"]
    assert metadata["labels"]["team"] == "search"
    assert metadata["annotations"] == {"a": "b"}


def test_pods_spread_over_nodes_and_zones(chart: Path) -> None:
    rendered = serving(chart)
    labels = rendered.one("Deployment", NAME)["spec"]["selector"]
    constraints = pod_of(rendered)["topologySpreadConstraints"]
    assert [item["topologyKey"].partition("/")[2] for item in constraints] == ["hostname", "zone"]
    assert all(item["labelSelector"] == labels for item in constraints)
    assert "topologySpreadConstraints" not in pod_of(serving(chart, topologySpreadConstraints=[]))


# -- the admin token


def test_without_a_token_no_request_may_change_entities(chart: Path) -> None:
    rendered = serving(chart)
    container = container_of(rendered)
    assert not [argument for argument in container["args"] if "token" in argument]
    assert TOKEN not in {entry["name"] for entry in container["env"]}
    assert not [name for name in rendered.names() if name.startswith("Secret")]


@pytest.mark.parametrize(("existing", "secret"), [("", f"{NAME}-admin"), ("mine", "mine")])
def test_token_is_a_file_from_a_secret(chart: Path, existing: str, secret: str) -> None:
    rendered = serving(chart, adminToken={"enabled": True, "existingSecret": existing})
    (volume,) = [volume for volume in pod_of(rendered)["volumes"] if "secret" in volume]
    assert volume["secret"] == {"secretName": secret, "items": [{"key": "token", "path": "token"}]}
    container = container_of(rendered)
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == volume["name"]]
    assert f"--admin-token-file={mount['mountPath']}/token" in container["args"]
    assert mount["readOnly"] is True
    assert f"get secret {secret} -o jsonpath='{{.data.token}}'" in rendered.notes
    if existing:
        assert f"Secret {NAME}-admin" not in rendered.names()
    else:
        assert len(b64decode(rendered.one("Secret", secret)["data"]["token"])) == 40


# -- values


def test_notes_say_what_the_pods_wait_for(chart: Path) -> None:
    notes = serving(chart, knowledgeBases=["products", "people"], service={"port": 8080}).notes
    assert "links texts against products, people in the pods of deployment zeshel-serving" in notes
    assert "port-forward service/zeshel-serving 8000:8080" in notes
    assert "token" not in notes
    assert "The service" not in render(chart, STORE).notes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"knowledgeBases": []}, "serving.knowledgeBases: expected names of knowledge bases"),
        (
            {"resources": {"requests": {"memory": "5Gi"}}},
            "serving.resources: expected a request of memory of at most its limit, 4Gi; got 5Gi",
        ),
        (
            {"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": 0}},
            "serving.rollingUpdate: expected maxSurge or maxUnavailable above 0, got 0 in both",
        ),
        (
            {"adminToken": {"existingSecret": "mine"}},
            'serving.adminToken.enabled: expected true, because serving.adminToken.existingSecret is "mine"; got false',
        ),
        ({"httpRoute": {"enabled": True}}, "serving.httpRoute.parentRefs: expected a Gateway"),
        ({"ingress": {"enabled": True, "tlsSecret": "cert"}}, "serving.ingress.host: expected the host of the certif"),
        (
            {"autoscaling": {"enabled": True, "minReplicas": 7}},
            "serving.autoscaling.minReplicas: expected at most maxReplicas, 6; got 7",
        ),
        (
            {"autoscaling": {"enabled": True, "cpuPercent": ""}},
            "serving.autoscaling: expected cpuPercent or queue.waitingMentions, got neither",
        ),
        (
            {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}, "limits": {"cpu": None}}},
            "serving.resources.requests.cpu: expected a request",
        ),
        (
            {"autoscaling": {"enabled": True, "queue": {"labels": {"a": "b"}}}},
            "serving.autoscaling.queue.labels: expected none, because only a metric of type External has them",
        ),
    ],
)
def test_impossible_combinations_are_rejected(chart: Path, values: Object, expected: str) -> None:
    with pytest.raises(helm_python.HelmRenderError) as caught:
        serving(chart, **values)
    assert expected in str(caught.value)


@pytest.mark.parametrize("other", ["airflow", "stages"])
def test_account_has_a_name_of_its_own(chart: Path, other: str) -> None:
    accounts = {"serving": {"name": "same"}, other: {"name": "same"}}
    values = merged(SERVING, {"standalone": {"enabled": True}, "serviceAccounts": accounts})
    with pytest.raises(helm_python.HelmRenderError, match="because both are created; got"):
        render(chart, values)
    assert pod_of(render(chart, merged(values, nested("serviceAccounts.serving.create", False))))


def test_release_whose_name_is_not_that_of_a_service_is_refused(chart: Path) -> None:
    with pytest.raises(helm_python.HelmRenderError, match="name of the release: expected a letter first"):
        render(chart, SERVING, "1x")
