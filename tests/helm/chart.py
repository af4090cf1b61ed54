"""Render the chart with Helm's engine (helm-python-sdk), without a cluster or a network.

``python tests/helm/chart.py DIR`` writes a copy that Helm installs without fetching the official chart.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate.utils
import yaml

HELM = Path(__file__).parents[2] / "helm"
CHART = HELM / "zeshel"
PROGRAM = shutil.which(os.environ.get("HELM", "helm"))
"""The program ``helm`` of any version, if there is one."""
KUBERNETES = ("1.25", "1.31", "1.37")
"""Of the schemas in kubernetes-validate the oldest, one in the middle and the newest; a test cluster runs 1.20."""
NAMESPACE = "ml"
Object = dict[str, Any]

# kubernetes-validate parses the definitions of all kinds again for each object.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)
kubernetes_validate.utils.all_versions = cache(kubernetes_validate.utils.all_versions)

# Values of each kind of installation.
STORE: Object = {"store": {"address": "s3://bucket/prefix", "existingSecret": "zeshel-store"}}
NEXT_TO_AIRFLOW: Object = STORE
STANDALONE: Object = {**STORE, "standalone": {"enabled": True}}
OFFICIAL: Object = {**STORE, "airflow": {"enabled": True}}
TRYING_OUT: Object = {"standalone": {"enabled": True}, "devStore": {"enabled": True}}
SERVING: Object = {**STORE, "serving": {"enabled": True, "knowledgeBases": ["products"]}}
SHAPES: dict[str, Object] = {
    "next to": NEXT_TO_AIRFLOW,
    "standalone": STANDALONE,
    "official": OFFICIAL,
    "trying out": TRYING_OUT,
    "serving": SERVING,
}
ALL_OF_SERVING: Object = {
    "enabled": True,
    "knowledgeBases": ["products", "people"],
    "adminToken": {"enabled": True},
    "ingress": {"enabled": True},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
    "autoscaling": {"enabled": True},
    "metrics": {"serviceMonitor": {"enabled": True}, "dashboard": {"enabled": True}},
}
CUSTOM_KINDS = ("HTTPRoute", "ServiceMonitor")
"""Kinds that are no part of Kubernetes."""

# Tests do not fetch the official chart or test its templates. The stand-in does what this project relies on: it
# receives our values only if it is enabled, and it evaluates `extraEnvFrom` and the job's `args` as templates, with the
# same calls as the official chart.
STAND_IN = {
    "Chart.yaml": "apiVersion: v2\nname: airflow\nversion: {version}\n",
    "values.yaml": "postgresql:\n  enabled: true\n",
    "templates/stand-in.yaml": """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: stand-in
data:
  values: {{ .Values | toJson | quote }}
  envFrom: {{ tpl .Values.extraEnvFrom . | quote }}
  args: {{ tpl (toYaml .Values.migrateDatabaseJob.args) . | quote }}
""",
}


def installable_copy(target: Path, source: Path = CHART) -> Path:
    """Copy the chart in ``source`` to ``target``, with a stand-in for the dependency in its ``charts`` folder."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
    version = yaml.safe_load((source / "Chart.yaml").read_text())["dependencies"][0]["version"]
    for name, text in STAND_IN.items():
        path = target / "charts" / "airflow" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{version}", version))
    return target


def earlier_copy(folder: Path, number: int) -> Path:
    """Make an installable copy of the chart as the last commit that changed it left it, or the one before (1).

    Raises:
        LookupError: there is no Git history.
    """
    try:
        log = _git("log", "-2", "--format=%H", "--", str(CHART)).decode().split()
        archive = _git("archive", log[number], "--", "helm/zeshel")
    except (OSError, subprocess.CalledProcessError) as error:
        raise LookupError("no Git history") from error
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return installable_copy(folder / "installable", folder / "helm" / "zeshel")


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=CHART.parents[1], capture_output=True, timeout=60, check=True).stdout


class _OnceLoader(yaml.CSafeLoader):
    """Refuses keys that are there twice, as kustomize does. libyaml needs a tenth of the time of Python's parser."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        assert len(set(names)) == len(names), f"keys that are there twice: {sorted(names)}, {node.start_mark}"
        return super().construct_mapping(node, deep)


def documents(text: str | bytes) -> Iterator[Object]:
    """Yield the documents of YAML that are not empty."""
    return (document for document in yaml.load_all(text, _OnceLoader) if document)


class Rendered:
    """The objects and the notes of one rendering."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.notes = next(text for name, text in files.items() if name == "zeshel/templates/NOTES.txt")
        self.objects = [
            document for name, text in files.items() if name.endswith(".yaml") for document in documents(text)
        ]

    def __iter__(self) -> Iterator[Object]:
        return iter(self.objects)

    def one(self, kind: str, name: str) -> Object:
        """The only object of this kind and name."""
        found = [item for item in self if (item["kind"], item["metadata"]["name"]) == (kind, name)]
        assert len(found) == 1, f"expected one {kind} {name}, got {len(found)} among {self.names()}"
        return found[0]

    def names(self) -> set[str]:
        """``Kind name`` of every object."""
        return {f"{item['kind']} {item['metadata']['name']}" for item in self}


def render(
    chart: Path, values: Mapping[str, Any], release: str = "zeshel", kubernetes: str = KUBERNETES[-1]
) -> Rendered:
    """Render the chart with these values, for a version of Kubernetes.

    Raises:
        helm_python.HelmError: a value is rejected.
    """
    options = {"name": release, "namespace": NAMESPACE, "kube_version": f"v{kubernetes}.0"}
    with helm_python.Chart.load(chart) as loaded:
        # Its method `render` cannot choose the version.
        call = helm_python._native.call_string
        return Rendered(json.loads(call("helm_render", loaded._raw(), json.dumps(values), json.dumps(options))))


def rendered_by_program(chart: Path, values: Mapping[str, Any], folder: Path) -> list[Object]:
    """Render the chart with :data:`PROGRAM`, whose values are written into ``folder``.

    Raises:
        subprocess.CalledProcessError: a value is rejected.
    """
    assert PROGRAM is not None
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    command = [PROGRAM, "template", "zeshel", str(chart), f"--values={file}", f"--namespace={NAMESPACE}"]
    done = subprocess.run([*command, f"--kube-version={KUBERNETES[-1]}"], capture_output=True, timeout=60, check=True)
    return list(documents(done.stdout))


def validate(item: Object, kubernetes: str) -> None:
    """Check an object with the schema of a version of Kubernetes, which has none of :data:`CUSTOM_KINDS`."""
    if item["kind"] not in CUSTOM_KINDS:
        kubernetes_validate.validate(item, kubernetes, strict=True)


def nested(path: str, value: Any) -> dict[str, Any]:
    """``{"a": {"b": value}}`` for the path ``a.b``."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Merge values as Helm does: maps by key, later parts over earlier ones."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = result.get(key)
            result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


if __name__ == "__main__":
    print(installable_copy(Path(sys.argv[1])))
