"""The deployment's own part of the stages' pods, ``podTemplate``, in the form of Kubernetes.

The provider merges it with the arguments of the operator. This module checks it first, because the client of Kubernetes
ignores unknown fields, and the merge drops what the operator sets, too. So a template may only have fields that are
left to it, and none that would weaken the Pod Security Standard "restricted".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client import ApiClient, Configuration
from kubernetes.client import models as k8s

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.orchestration.pod_settings import PodSettings
from zeshel_tasks.orchestration.pods.specification import (
    container_security,
    environment,
    labels_of_all,
    volume_mounts,
    volumes,
)
from zeshel_tasks.orchestration.task_command import TaskCommand
from zeshel_tasks.text.safe_text import quoted

BASE = "base"
"""Name of the stage's container."""

FIELDS: Mapping[str, Collection[str]] = {
    "": ("spec",),
    "spec": (
        "containers", "dnsConfig", "dnsPolicy", "hostAliases", "initContainers", "resourceClaims", "runtimeClassName",
        "schedulerName", "securityContext", "topologySpreadConstraints", "volumes",
    ),
    "spec.securityContext": ("fsGroupChangePolicy", "supplementalGroups", "supplementalGroupsPolicy"),
    # The types of volumes that the standard allows.
    "spec.volumes[]": (
        "name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
        "secret",
    ),
    "spec.containers[]": ("name", "env", "envFrom", "resources", "volumeDevices", "volumeMounts"),
    "spec.containers[].resources": ("claims",),
    # They have the security context of the stage.
    "spec.initContainers[]": (
        "name", "args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe",
        "readinessProbe", "resources", "restartPolicy", "startupProbe", "volumeDevices", "volumeMounts", "workingDir",
    ),
}  # fmt: skip
"""The fields that a template may have, where it may not have all that Kubernetes knows."""

_SET_BY = {
    "metadata": "labels or annotations",
    "nodeSelector": "nodeSelector of model and data",
    "tolerations": "tolerations of model and data",
    "affinity": "affinity of model and data",
    "priorityClassName": "priorityClassName of model and data",
    "serviceAccountName": "serviceAccountName",
    "imagePullSecrets": "imagePullSecrets",
    "image": "image",
    "imagePullPolicy": "imagePullPolicy",
    "limits": "resources of model and data",
    "requests": "resources of model and data",
    "activeDeadlineSeconds": "activeDeadlineSeconds",
    "terminationGracePeriodSeconds": "terminationGracePeriodSeconds",
    "runAsUser": "runAsUser",
}
_TYPES = {"str": str, "int": int, "bool": bool, "float": (int, float)}
_EXPECTED = {"str": "text", "int": "a whole number", "bool": "true or false", "float": "a number"}


def pod_template(command: TaskCommand, pods: PodSettings) -> k8s.V1Pod | None:
    """Return the deployment's template for the pod of a command, over which the operator merges its arguments.

    The volumes, mounts, variables and init containers of a class of pods are added to those of all pods, and its other
    fields replace theirs.

    Raises:
        ConfigError: a template has a field that Kubernetes does not know or that is not left to it, or two parts of the
            pod have the same name or path.
    """
    name, pod_class = ("model", pods.model) if command.runs_a_model else ("data", pods.data)
    templates = {
        "ZESHEL_PODS.podTemplate": pods.pod_template,
        f"ZESHEL_PODS.{name}.podTemplate": pod_class.pod_template,
    }
    labels = labels_of_all(command, pods)
    given = {where: _pod(where, template, labels) for where, template in templates.items() if template}
    if not given:
        return None
    merged = functools.reduce(PodGenerator.reconcile_pods, given.values())
    _check_names(merged.spec, command, pods, " and ".join(given))
    return merged


def _pod(where: str, template: Mapping[str, Any], labels: Mapping[str, str]) -> k8s.V1Pod:
    filled = {"spec": {}, **deepcopy(dict(template))}
    if isinstance(spec := filled["spec"], dict):
        spec.setdefault("containers", [{"name": BASE}])
    _check(filled, "V1Pod", where, "")
    if (names := [container["name"] for container in spec["containers"]]) != [BASE]:
        got = ", ".join(names)
        raise ConfigError(
            f"{where}.spec.containers: expected one with the name {BASE}, that of the stage; got {quoted(got)}. Others "
            "belong into initContainers, with restartPolicy Always if they are to run beside it"
        )
    own = ApiClient(Configuration()).sanitize_for_serialization(container_security())
    for number, container in enumerate(spec.get("initContainers", [])):
        if "image" not in container:
            raise ConfigError(f"{where}.spec.initContainers[{number}]: expected image; it is not set")
        container["securityContext"] = own
    for constraint in spec.get("topologySpreadConstraints", []):
        constraint.setdefault("labelSelector", {"matchLabels": dict(labels)})  # without one, it counts no pod
    return PodGenerator.deserialize_model_dict(filled)


def _check(value: Any, kind: str, where: str, path: str) -> None:
    """Check a value against a type of Kubernetes' client, such as ``V1Volume`` or ``dict(str, str)``.

    Args:
        value: of JSON.
        kind: the type.
        where: the value's place, for messages.
        path: the same below the template and without numbers, a key of :data:`FIELDS`.
    """
    if found := re.fullmatch(r"list\[(.*)]", kind):
        for number, item in enumerate(_expect(value, list, "a list", where)):
            _check(item, found[1], f"{where}[{number}]", f"{path}[]")
    elif found := re.fullmatch(r"dict\(str, (.*)\)", kind):
        for key, item in _expect(value, dict, "an object", where).items():
            _check(item, found[1], f"{where}.{key}", f"{path}.{key}")
    elif kind in _TYPES:
        if isinstance(value, bool) != (kind == "bool"):  # in Python, True is a number
            _expect(value, (), _EXPECTED[kind], where)
        _expect(value, _TYPES[kind], _EXPECTED[kind], where)
    elif hasattr(k8s, kind):
        _check_object(_expect(value, dict, "an object", where), getattr(k8s, kind), where, path)


def _check_object(value: Mapping[str, Any], model: Any, where: str, path: str) -> None:
    names = {name: attribute for attribute, name in model.attribute_map.items()}
    allowed = FIELDS.get(path, names)
    for name, item in value.items():
        if name not in allowed:
            hint = f", which {_SET_BY[name]} sets" if name in _SET_BY and path in FIELDS else ""
            raise ConfigError(f"{where}: expected one of {', '.join(sorted(allowed))}; got {quoted(name)}{hint}")
        _check(item, model.openapi_types[names[name]], f"{where}.{name}", f"{path}.{name}".lstrip("."))
    try:
        model(**{attribute: value.get(name) for name, attribute in names.items()})
    except ValueError as error:
        missing = re.search(r"`(\w+)`", str(error))
        what = model.attribute_map.get(missing[1], missing[1]) if missing else str(error)
        raise ConfigError(f"{where}: expected {what}; it is not set") from None


def _expect(value: Any, kind: Any, expected: str, where: str) -> Any:
    if not isinstance(value, kind):
        raise ConfigError(f"{where}: expected {expected}, got a value of type {type(value).__name__}")
    return value


def _check_names(spec: k8s.V1PodSpec, command: TaskCommand, pods: PodSettings, where: str) -> None:
    """Refuse names and paths that are there twice. Kubernetes would refuse the pod, or take the last variable."""
    (base,) = spec.containers
    own = [volume.name for volume in volumes(command, pods)]
    named = [*own, *(volume.name for volume in spec.volumes or [])]
    _once(named, f"{where}.spec.volumes: expected another name")
    variables = [*environment(command, pods), *(base.env or [])]
    _once([variable.name for variable in variables], f"{where}.spec.containers[0].env: expected another name")
    claims = [claim.name for claim in spec.resource_claims or []]
    for claim in (base.resources.claims if base.resources else None) or []:
        if claim.name not in claims:
            at = f"{where}.spec.containers[0].resources.claims"
            raise ConfigError(f"{at}: expected the name of one of spec.resourceClaims; got {quoted(claim.name)}")
    for container in [base, *(spec.init_containers or [])]:
        mounts = container.volume_mounts or []
        at = f"{where}: volumeMounts of {container.name}"
        for mount in mounts:
            if mount.name not in named:
                raise ConfigError(f"{at}: expected one of the volumes {', '.join(named)}; got {quoted(mount.name)}")
        theirs = volume_mounts(command, pods) if container is base else []
        _once([mount.mount_path for mount in [*theirs, *mounts]], f"{at}: expected another mountPath")


def _once(names: Sequence[str], expected: str) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ConfigError(f"{expected} than {quoted(name)}, which is there already")
