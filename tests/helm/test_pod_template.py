"""`stages.podTemplate` and `caBundle`: what the DAG and the pods get, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from tests.helm.chart import (
    ALL_OF_SERVING,
    CHART,
    KUBERNETES,
    SHAPES,
    STORE,
    Object,
    Rendered,
    merged,
    nested,
    render,
    validate,
)
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.orchestration.pod_settings import PodSettings
from zeshel_tasks.orchestration.pods.template import FIELDS, pod_template
from zeshel_tasks.orchestration.stage_command import StageCommand
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step

DEFINITIONS = json.loads((CHART / "values.schema.json").read_text())["definitions"]
EXAMPLE: Object = {
    "spec": {
        "runtimeClassName": "nvidia",
        "schedulerName": "volcano",
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["s3.example.com"]}],
        "dnsPolicy": "ClusterFirst",
        "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
        "securityContext": {"supplementalGroups": [2000], "fsGroupChangePolicy": "OnRootMismatch"},
        "topologySpreadConstraints": [
            {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "nodeTaintsPolicy": "Honor"}
        ],
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}],
        "initContainers": [
            {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always", "resources": {"limits": {"cpu": "100m"}}}
        ],
        "volumes": [
            {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
            {"name": "extra", "configMap": {"name": "extra", "items": [{"key": "a", "path": "b"}]}},
        ],
        "containers": [
            {
                "name": "base",
                "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}],
                "envFrom": [{"configMapRef": {"name": "extra"}}],
                "resources": {"claims": [{"name": "gpu"}]},
                "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
            }
        ],
    }
}
REFUSED: list[Object] = [
    {"restartPolicy": "Always"},
    {"hostNetwork": True},
    {"nodeSelector": {"a": "b"}},
    {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
    {"volumes": [{"name": "a", "configMap": {"nam": "a"}}]},
    {"volumes": [{"name": "shm", "emptyDir": {}}]},
    {"containers": [{"name": "other"}]},
    {"containers": [{"name": "base", "command": ["sh"]}]},
    {"containers": [{"name": "base", "securityContext": {"privileged": True}}]},
    {"containers": [{"name": "base", "resources": {"limits": {"cpu": "1"}}}]},
    {"containers": [{"name": "base", "volumeMounts": [{"name": "missing", "mountPath": "/a"}]}]},
    {"containers": [{"name": "base", "volumeMounts": [{"name": "scratch"}]}]},
    {"containers": [{"name": "base", "env": [{"name": "A", "value": 1}]}]},
    {"initContainers": [{"name": "a"}]},
    {"initContainers": [{"name": "a", "image": "a:1", "securityContext": {}}]},
    {"topologySpreadConstraints": [{"topologyKey": "zone"}]},
    {"securityContext": {"runAsUser": 0}},
]
CA: Object = {"caBundle": {"configMap": "company", "key": "roots.pem"}}
VOLUME = {"name": "ca-bundle", "configMap": {"name": "company", "items": [{"key": "roots.pem", "path": "ca.crt"}]}}
MOUNT = {"name": "ca-bundle", "mountPath": "/etc/zeshel/ca", "readOnly": True}
VARIABLES = dict.fromkeys(("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), "/etc/zeshel/ca/ca.crt")
MOUNTED = {"airflow": {"volumes": [VOLUME], "volumeMounts": [MOUNT]}}
EVERYTHING = {"serving": ALL_OF_SERVING, "retention": {"enabled": True}, "sampleInputs": {"enabled": True}}


def pods(rendered: Rendered) -> PodSettings:
    return PodSettings.model_validate_json(rendered.one("ConfigMap", "zeshel-settings")["data"]["ZESHEL_PODS"])


def template(settings: PodSettings, stage: str = "train-biencoder") -> Any:
    return pod_template(StageCommand(Step(STAGES[stage]), "s3://b"), settings)


def pod_specs(rendered: Rendered) -> dict[str, Object]:
    """The pods that the chart creates, but for the trial store, which speaks to nobody."""
    found = {}
    for item in rendered:
        spec = item.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if item["kind"] in ("Deployment", "Job", "CronJob") and not item["metadata"]["name"].endswith("-store"):
            found[item["metadata"]["name"]] = spec["template"]["spec"]
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_rendered_without_the_values(chart: Path, shape: str) -> None:
    rendered = render(chart, merged(SHAPES[shape], {"retention": {"enabled": True}}))
    data = rendered.one("ConfigMap", "zeshel-settings")["data"]
    assert "podTemplate" not in data["ZESHEL_PODS"]
    assert "fixedParams" not in data["ZESHEL_PODS"]
    assert not [name for name in data if "S3_" in name.replace("AWS_ENDPOINT_URL_S3", "") or name in VARIABLES]
    assert "ZESHEL_APPROVERS" not in data
    assert "ca-bundle" not in json.dumps(rendered.objects)


def test_dag_accepts_a_template_with_every_field(chart: Path) -> None:
    settings = pods(render(chart, merged(STORE, nested("stages.podTemplate", EXAMPLE), CA)))
    spec = template(settings).to_dict()["spec"]
    assert {name for name, value in spec.items() if value} == {
        "containers", "dns_config", "dns_policy", "host_aliases", "init_containers", "resource_claims",
        "runtime_class_name", "scheduler_name", "security_context", "topology_spread_constraints", "volumes",
    }  # fmt: skip
    assert [volume["name"] for volume in spec["volumes"]] == ["models", "extra", "ca-bundle"]
    assert [mount["mount_path"] for mount in spec["containers"][0]["volume_mounts"]] == ["/models", "/etc/zeshel/ca"]


def test_schema_and_dag_allow_the_same_fields() -> None:
    spec = DEFINITIONS["podTemplate"]["properties"]["spec"]["properties"]
    assert set(DEFINITIONS["podTemplate"]["properties"]) == set(FIELDS[""])
    assert {
        "spec": set(spec),
        "spec.securityContext": set(spec["securityContext"]["properties"]),
        "spec.volumes[]": set(DEFINITIONS["volume"]["properties"]),
        "spec.containers[]": set(spec["containers"]["items"]["properties"]),
        "spec.containers[].resources": set(spec["containers"]["items"]["properties"]["resources"]["properties"]),
        "spec.initContainers[]": set(DEFINITIONS["initContainer"]["properties"]),
    } == {path: set(fields) for path, fields in FIELDS.items() if path}


@pytest.mark.parametrize(
    ("place", "spec"),
    [
        ("stages.model", {"restartPolicy": "Always"}),
        ("stages.data", {"volumes": [{"name": "shm", "emptyDir": {}}]}),
        *(("stages", spec) for spec in REFUSED),
    ],
    ids=str,
)
def test_chart_and_dag_refuse_the_same_templates(chart: Path, place: str, spec: Object) -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        render(chart, merged(STORE, nested(f"{place}.podTemplate", {"spec": spec})))
    assert re.search(rf"{place.replace('.', '[./]')}[./]podTemplate[./]spec", str(refused.value))
    given = nested(f"{place}.podTemplate", {"spec": spec})["stages"]
    settings = PodSettings.model_validate({"image": "i:1", "namespace": "n", **given})
    with pytest.raises(ConfigError, match=r"^ZESHEL_PODS\..*expected"):
        template(settings, "download" if place.endswith("data") else "train-biencoder")


def test_class_may_mount_a_volume_of_all_pods(chart: Path) -> None:
    mounts = {"containers": [{"name": "base", "volumeMounts": [{"name": "models", "mountPath": "/elsewhere"}]}]}
    values = merged(STORE, nested("stages.podTemplate", EXAMPLE), nested("stages.model.podTemplate", {"spec": mounts}))
    spec = template(pods(render(chart, values))).spec
    assert [mount.mount_path for mount in spec.containers[0].volume_mounts] == ["/models", "/elsewhere"]


# -- a private authority


@pytest.mark.parametrize("shape", SHAPES)
def test_every_pod_reads_the_certificates(chart: Path, shape: str) -> None:
    rendered = render(chart, merged(SHAPES[shape], EVERYTHING, MOUNTED, CA))
    assert VARIABLES.items() <= rendered.one("ConfigMap", "zeshel-settings")["data"].items()
    specs = pod_specs(rendered)
    assert len(specs) >= 3  # the service, the cleanup and the sample inputs
    for name, spec in specs.items():
        assert VOLUME in spec["volumes"], name
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert MOUNT in container["volumeMounts"], name
            variables = {item["name"]: item.get("value") for item in container.get("env", [])}
            sources = [next(iter(source.values()))["name"] for source in container.get("envFrom", [])]
            assert VARIABLES.items() <= variables.items() or "zeshel-settings" in sources, name
    (base,) = template(pods(rendered)).spec.containers
    assert [mount.mount_path for mount in base.volume_mounts] == ["/etc/zeshel/ca"]
    for item in rendered:
        validate(item, KUBERNETES[-1])


def test_certificates_may_be_in_a_secret(chart: Path) -> None:
    values = merged(SHAPES["serving"], {"caBundle": {"secret": "company"}})
    (spec,) = pod_specs(render(chart, values)).values()
    assert {
        "name": "ca-bundle",
        "secret": {"secretName": "company", "items": [{"key": "ca.crt", "path": "ca.crt"}]},
    } in spec["volumes"]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"caBundle": {"configMap": "a", "secret": "b"}}, "caBundle: expected a configMap or a secret, got both"),
        ({"caBundle": {"configMap": "a", "name": "b"}}, "name"),
        (merged(SHAPES["official"], CA), 'airflow.volumeMounts: expected {"mountPath":"/etc/zeshel/ca"'),
        (merged(SHAPES["official"], CA, {"airflow": {"volumeMounts": [MOUNT]}}), "airflow.volumes: expected"),
    ],
)
def test_certificates_that_cannot_be_read_are_refused(chart: Path, values: Object, problem: str) -> None:
    with pytest.raises(helm_python.HelmError) as caught:
        render(chart, merged(STORE, values))
    assert problem in str(caught.value)


# -- other settings of a company


def test_store_settings_reach_every_client(chart: Path) -> None:
    store = {"encryption": "aws:kms", "kmsKey": "alias/zeshel", "storageClass": "STANDARD_IA", "addressing": "virtual"}
    rendered = render(chart, merged(SHAPES["serving"], EVERYTHING, {"store": store}))
    expected = {
        "ZESHEL_S3_ENCRYPTION": "aws:kms",
        "ZESHEL_S3_KMS_KEY": "alias/zeshel",
        "ZESHEL_S3_STORAGE_CLASS": "STANDARD_IA",
        "ZESHEL_S3_ADDRESSING": "virtual",
    }
    assert expected.items() <= rendered.one("ConfigMap", "zeshel-settings")["data"].items()
    assert expected.items() <= pods(rendered).env.items()
    for spec in pod_specs(rendered).values():
        assert expected.items() <= {item["name"]: item.get("value") for item in spec["containers"][0]["env"]}.items()


@pytest.mark.parametrize(
    "store",
    [{"encryption": "kms"}, {"kmsKey": "a"}, {"kmsKey": "a", "encryption": "AES256"}, {"storageClass": "GLACIER"}],
)
def test_wrong_store_setting_is_refused(chart: Path, store: Object) -> None:
    with pytest.raises(helm_python.HelmError, match=r"store[./](encryption|storageClass)"):
        render(chart, merged(STORE, {"store": store}))


def test_dag_gets_approvers_and_fixed_params(chart: Path) -> None:
    values = {"dag": {"approvers": [{"id": "7", "name": "Ada"}]}, "stages": {"fixedParams": ["image"]}}
    rendered = render(chart, merged(STORE, values))
    data = rendered.one("ConfigMap", "zeshel-settings")["data"]
    assert yaml.safe_load(data["ZESHEL_APPROVERS"]) == [{"id": "7", "name": "Ada"}]
    assert pods(rendered).fixed_params == ["image"]
