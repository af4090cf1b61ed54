"""Creates a deployment on a real cluster, which $KUBECONFIG names. Needs kubectl and helm on PATH.

Images are built and loaded into the cluster (see image_loading.py). ``IMAGES_LOADED=1`` uses images that are already
there. ``KEEP=1`` keeps the namespace for inspection. If ``API_STOP`` and ``API_START`` are commands that stop and start
the cluster's API server, an outage is tested, too.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cluster import collector, image_loading
from tests.cluster.deployment import BUCKET, DagRun, Deployment, Release, s3_client, secret_value, stopwatch
from tests.cluster.kubectl import Namespace, eventually, helm
from tests.cluster.pod_watch import PodWatch
from tests.cluster.s3.authority import CERTIFICATE, new_authority
from tests.helm.chart import CHART, installable_copy
from tests.support.data_set_files import document, write_wiki
from zeshel_tasks import __version__
from zeshel_tasks.demo.local_airflow.client import AirflowClient
from zeshel_tasks.demo.local_airflow.configuration import free_port

ROOT = Path(__file__).parents[2]
CLUSTER_TESTS = Path(__file__).parent
RELEASE = "zeshel"
ACCESS_KEY, SECRET_KEY = "test-key", "test-secret-key"
SMALL = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "3Gi"}}
# Templates of other programs, such as Vault's agent. Airflow must not render them.
UNRENDERED = {"example.com/template": '{{ with secret "a/b" }}{{ .Data.x }}{{ end }}'}
# A folder of the volume, in which a test can put settings in Python that Airflow reads at its next start.
PYTHON_FOLDER = "/opt/airflow/state/python"
UNRENDERED_VARIABLES = {"EXAMPLE_TEMPLATE": "{{ ds }} {% raw %} ${HOME}"}
# A volume with the certificates of the store in another place, which the stages do not need.
POD_TEMPLATE = {
    "spec": {
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["models.example.com"]}],
        "volumes": [{"name": "team", "configMap": {"name": "authorities"}}],
        "containers": [{"name": "base", "volumeMounts": [{"name": "team", "mountPath": "/etc/team"}]}],
    }
}
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks these tests, which need a cluster and a long timeout."""
    for item in items:
        if CLUSTER_TESTS in item.path.parents and "deployment" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(2400))


def image(name: str) -> str:
    """Returns the full name of one of our images."""
    return f"{os.environ.get('IMAGE_PREFIX', 'localhost/')}{name}:{os.environ.get('IMAGE_TAG', __version__)}"


@pytest.fixture(scope="session")
def images_loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Loads the images of this checkout onto the cluster's nodes."""
    if os.environ.get("IMAGES_LOADED"):
        return
    archives = tmp_path_factory.mktemp("images")
    seconds = stopwatch()
    subprocess.run(
        [sys.executable, "-m", "images.build", "--test-images", "--save", str(archives)], cwd=ROOT, check=True
    )
    print(f"\nimages built and saved: {seconds():.0f} s")
    for archive in sorted(archives.iterdir()):
        image_loading.load([archive], os.environ)
        archive.unlink()
    print(f"\nimages loaded: {seconds():.0f} s")


@pytest.fixture(scope="session")
def namespace(images_loaded: None) -> Iterator[Namespace]:
    """A new namespace, deleted with all of its content at the end."""
    made = Namespace(f"zeshel-test-{uuid4().hex[:6]}")
    made.run("create", "namespace", made.name)
    yield made
    if "KEEP" not in os.environ:
        made.run("delete", "namespace", made.name, "--wait=false")


@pytest.fixture(scope="session")
def authority() -> dict[str, str]:
    """A private authority, which signs the certificate of the S3 server."""
    return new_authority()


@pytest.fixture(scope="session")
def s3_pod_ip(namespace: Namespace, authority: dict[str, str]) -> str:
    """IP address of the S3 server's pod. It works without a service proxy in the cluster."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "s3", "labels": {"app": "s3"}},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "s3",
                    "image": image("zeshel-test-s3"),
                    "imagePullPolicy": "IfNotPresent",
                    "args": ["--bucket", BUCKET, "--authority=/authority", "--address=$(IP)", "--address=127.0.0.1"],
                    "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                    "volumeMounts": [{"name": "authority", "mountPath": "/authority"}],
                    "securityContext": RESTRICTED,
                    "readinessProbe": {"tcpSocket": {"port": 5000}, "periodSeconds": 1},
                }
            ],
            "volumes": [{"name": "authority", "secret": {"secretName": "authority"}}],
        },
    }
    private = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "authority"}, "stringData": authority}
    public = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "authorities"},
        "data": {CERTIFICATE: authority[CERTIFICATE]},
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "store"},
        "stringData": {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY},
    }
    namespace.apply(pod, secret, private, public)
    namespace.run("wait", "pod/s3", "--for=condition=Ready", "--timeout=180s")
    return str(namespace.get("pod", "s3")["status"]["podIP"])


@pytest.fixture(scope="session")
def collector_address(namespace: Namespace) -> str:
    """Address of a pod that receives metrics and prints them."""
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "collector"},
            "spec": {
                "automountServiceAccountToken": False,
                "containers": [
                    {
                        "name": "collector",
                        "image": image("zeshel-tasks"),
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["python3", "-c", Path(collector.__file__).read_text()],
                        "securityContext": RESTRICTED,
                        "readinessProbe": {"tcpSocket": {"port": collector.PORT}, "periodSeconds": 1},
                    }
                ],
            },
        }
    )
    namespace.run("wait", "pod/collector", "--for=condition=Ready", "--timeout=180s")
    return f"http://{namespace.get('pod', 'collector')['status']['podIP']}:{collector.PORT}"


@pytest.fixture(scope="session")
def authorities(authority: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File with the certificate of the private authority."""
    path = tmp_path_factory.mktemp("authority") / CERTIFICATE
    path.write_text(authority[CERTIFICATE])
    return path


@pytest.fixture(scope="session")
def s3(namespace: Namespace, s3_pod_ip: str, authorities: Path) -> Iterator[Any]:
    """A client of the S3 server."""
    port = free_port()
    with namespace.forwarded("pod/s3", 5000, port):
        client = s3_client(f"https://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY, authorities)
        eventually(lambda: _answers(client), "an answer of the S3 server", 60)
        yield client


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart, with a stand-in for the official chart if that was not fetched."""
    if any((CHART / "charts").glob("airflow*")):
        return CHART
    return installable_copy(tmp_path_factory.mktemp("chart") / "zeshel")


@pytest.fixture(scope="session")
def storage_class(namespace: Namespace) -> Iterator[str]:
    """The storage class for Airflow's database: the cluster's own, or else a volume on the node's disk."""
    classes = namespace.get("storageclass")["items"]
    default = "storageclass.kubernetes.io/is-default-class"
    if any(found["metadata"].get("annotations", {}).get(default) == "true" for found in classes):
        yield ""
        return
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace.name},
        "spec": {
            "storageClassName": namespace.name,
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": f"/var/tmp/{namespace.name}", "type": "DirectoryOrCreate"},
        },
    }
    on_the_node = {"name": "disk", "hostPath": {"path": "/var/tmp"}}
    command = f"mkdir -p /disk/{namespace.name} && chown 50000:50000 /disk/{namespace.name}"
    namespace.apply(volume, _root_pod("make-volume", command, on_the_node))
    eventually(lambda: _succeeded(namespace, "make-volume"), "the volume's folder", 60)
    yield namespace.name
    if "KEEP" not in os.environ:
        namespace.apply(_root_pod("remove-volume", f"rm -rf /disk/{namespace.name}", on_the_node))
        eventually(lambda: _succeeded(namespace, "remove-volume"), "the volume's end", 60)
        namespace.run("delete", "persistentvolume", namespace.name, "--wait=false")


@pytest.fixture(scope="session")
def values(s3_pod_ip: str, collector_address: str, storage_class: str) -> dict[str, Any]:
    """Values of the chart for a small machine without GPUs."""
    repository, _, tag = image("zeshel-tasks").rpartition(":")
    return {
        "images": {
            "tasks": {"repository": repository, "tag": tag},
            "small": {"repository": repository.replace("zeshel-tasks", "zeshel-small"), "tag": tag},
            "airflow": {"repository": repository.replace("zeshel-tasks", "zeshel-airflow"), "tag": tag},
        },
        "store": {
            "address": f"s3://{BUCKET}/test",
            "endpoint": f"https://{s3_pod_ip}:5000",
            "region": "us-east-1",
            "encryption": "AES256",
            "addressing": "path",
            "existingSecret": "store",
        },
        "caBundle": {"configMap": "authorities", "key": CERTIFICATE},
        "dag": {
            # Runs wait more than they compute, so the tests start several at once.
            "maxActiveRuns": 8,
            "maxActiveLinks": 8,
            "pool": {"slots": 8},
            "retries": 2,
            "retryDelaySeconds": 3,
            "maxRetryDelaySeconds": 10,
            "defaults": {
                "print_interval": 2,
                # Less to train than with the preset `smoke`, but enough to pass the tests of quality by a wide margin.
                "convert.max_mentions_per_world": 60,
                "train_crossencoder.train_candidates": 6,
            },
        },
        "sampleInputs": {"enabled": True},
        "metrics": {"endpoint": collector_address},
        "stages": {
            "gpus": 0,
            "annotations": UNRENDERED,
            "env": UNRENDERED_VARIABLES,
            "podTemplate": POD_TEMPLATE,
            "model": {"resources": SMALL},
            "data": {"resources": SMALL},
            "scratchSize": "5Gi",
            "shmSize": "512Mi",
            "loggingIntervalSeconds": 3,
            "pollIntervalSeconds": 1,
            "terminationGracePeriodSeconds": 30,
        },
        "standalone": {
            "enabled": True,
            "env": {"PYTHONPATH": PYTHON_FOLDER},
            "persistence": {"enabled": True, "size": "5Gi", "storageClass": storage_class},
        },
    }


@pytest.fixture(scope="session")
def deployment(
    namespace: Namespace, s3: Any, chart: Path, values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """The chart with its standalone Airflow, installed and healthy."""
    release = Release(RELEASE, namespace, chart, values, tmp_path_factory.mktemp("values"))
    seconds = stopwatch()
    release.apply("install", {})
    namespace.run("rollout", "status", f"deployment/{RELEASE}-airflow", "--timeout=600s")
    port = free_port()
    with ExitStack() as stack:
        stack.enter_context(namespace.forwarded(f"deployment/{RELEASE}-airflow", 8080, port))
        password = secret_value(namespace, f"{RELEASE}-keys", "admin-password")
        airflow = AirflowClient(f"http://127.0.0.1:{port}", "admin", password)
        stack.callback(airflow.close)
        eventually(lambda: all(map(airflow.has_dag, ("zeshel", "zeshel_link"))), "the DAGs", 300)
        print(f"\nAirflow up, with the DAGs, {seconds():.0f} s after `helm install`")
        yield Deployment(namespace, airflow, s3, release)
    helm("uninstall", RELEASE, f"--namespace={namespace.name}")


@pytest.fixture(scope="session")
def pods(namespace: Namespace) -> Iterator[PodWatch]:
    """Records the stages' pods, from the first run on."""
    with PodWatch(namespace.name) as watch:
        yield watch


@pytest.fixture(scope="session")
def sample_inputs(deployment: Deployment) -> None:
    """The sample worlds and the small BERT, which a Job of the chart has written to the store."""
    seconds = stopwatch()
    job = "--selector=app.kubernetes.io/component=sample-inputs"
    deployment.namespace.run("wait", "job", job, "--for=condition=complete", "--timeout=900s")
    print(f"\nwaited {seconds():.0f} s for the sample inputs")


@pytest.fixture(scope="session")
def started_run(deployment: Deployment, sample_inputs: None, pods: PodWatch) -> DagRun:
    """The first run, which is training its bi-encoder."""
    run = deployment.trigger("first")
    run.running_pod("train-biencoder", says="step ")
    return run


@pytest.fixture(scope="session")
def failing_runs(started_run: DagRun, deployment: Deployment) -> dict[str, DagRun]:
    """Runs that cannot work. They reuse the first run's data; another seed makes them train models of their own."""
    deployment.s3.upload_fileobj(BytesIO(b"this is no archive"), BUCKET, "test/inputs/broken.tar.bz2")
    return {
        run_id: deployment.trigger(run_id, **conf)
        for run_id, conf in {
            "no-such-gpu": {"device": "cuda:3", "seed": 1},
            "broken-archive": {"download__source": f"s3://{BUCKET}/test/inputs/broken.tar.bz2"},
            "too-little-memory": {"memory": "96Mi", "seed": 2},
            "no-such-image": {"image": "localhost/no-such-image:1", "seed": 3},
        }.items()
    }


@pytest.fixture(scope="session")
def first_run(started_run: DagRun, failing_runs: dict[str, DagRun]) -> DagRun:
    """A run of the whole recipe without disturbance, beside runs that fail."""
    started_run.succeed()
    tasks = started_run.tasks().values()
    started, ended = min(t.started for t in tasks if t.started), max(t.ended for t in tasks if t.ended)
    print(f"\nthe whole recipe: {(ended - started).total_seconds():.0f} s")
    return started_run


@pytest.fixture(scope="session")
def merged_run(first_run: DagRun, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> DagRun:
    """A run on a part of the sample worlds and a team's own data, with settings that always keep the champion."""
    wiki = write_wiki(tmp_path_factory.mktemp("wiki"))
    with (wiki / "documents" / "quill.json").open("a") as quill:  # the only world that is encoded in shards
        quill.writelines(json.dumps(document("quill", number)) + "\n" for number in range(3, 303))
    for file in wiki.rglob("*.json"):
        key = f"inputs/wiki/{file.relative_to(wiki).as_posix()}"
        deployment.s3.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())
    return deployment.trigger(
        "merged",
        download__more_sources=[f"s3://{BUCKET}/inputs/wiki/"],
        download__worlds_to_splits=["quill=test"],
        convert__max_mentions_per_world=20,
        promote__margin=1,
        sharded_from=250,
    )


def _root_pod(name: str, command: str, volume: dict[str, Any]) -> dict[str, Any]:
    container = {
        "name": "base",
        "image": image("zeshel-airflow"),
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", command],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": volume["name"], "mountPath": "/disk"}],
    }
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _succeeded(namespace: Namespace, pod: str) -> bool:
    return bool(namespace.get("pod", pod)["status"]["phase"] == "Succeeded")


def _answers(client: Any) -> bool:
    from botocore.exceptions import BotoCoreError

    try:
        client.head_bucket(Bucket=BUCKET)
    except BotoCoreError:
        return False
    return True
