"""Files are linked with the champion beside the second run of the recipe. A fifth of the link pods is killed."""

import json

import pytest

from tests.cluster.deployment import BUCKET, DagRun, Deployment
from tests.cluster.kubectl import eventually
from tests.cluster.pod_watch import PodWatch

DAG = "zeshel_link"
FILES = [f"{name}.jsonl" for name in ("a", "b", "c", "d", "e")]
ENTITIES = [
    {"id": str(number), "title": title, "text": f"{title} is a {kind} ."}
    for number, (title, kind) in enumerate(
        [("Ember", "sword"), ("Quill", "hero"), ("Grove", "forest"), ("Tide", "sea"), ("Ash", "city"), ("Dawn", "ship")]
    )
]


@pytest.fixture(scope="module")
def link_run(merged_run: DagRun, deployment: Deployment) -> DagRun:
    """A run that builds a knowledge base and links five files. It starts beside the merged run."""
    entities = "\n".join(map(json.dumps, ENTITIES)).encode()
    deployment.s3.put_object(Bucket=BUCKET, Key="inputs/entities.jsonl", Body=entities)
    for name in FILES:
        text = json.dumps({"text": "They saw the [[Ember]] and [[Quill]] ."}).encode()
        deployment.s3.put_object(Bucket=BUCKET, Key=f"texts/{name}", Body=text)
    entity_files = {"entities": [f"s3://{BUCKET}/inputs/entities.jsonl"], "entities.format": "jsonl"}
    return deployment.trigger("links", DAG, **places("linked"), **entity_files)


@pytest.fixture(scope="module")
def killed_pod(link_run: DagRun, deployment: Deployment) -> str:
    """Name of the file whose pod was killed, one of five."""
    pod = link_run.running_pod("link")["metadata"]
    deployment.namespace.run("delete", "pod", pod["name"], "--grace-period=0", "--force", "--wait=false")
    return FILES[int(pod["labels"]["map_index"])]


@pytest.fixture(scope="module")
def given_up_run(killed_pod: str, deployment: Deployment) -> DagRun:
    """A run that is marked as failed while its pods link files. It starts beside the end of the other one."""
    run = deployment.trigger("links-given-up", DAG, **places("given-up"))
    run.running_pod("link")
    run.give_up()
    return run


@pytest.mark.usefixtures("given_up_run")  # starts before the other one ends
def test_only_the_task_of_the_killed_pod_runs_again(link_run: DagRun, killed_pod: str, pods: PodWatch) -> None:
    tasks = link_run.succeed().tasks()
    assert {name: tasks[name].try_number for name in FILES} == {name: 1 + (name == killed_pod) for name in FILES}
    assert sum(pod.stage == "link" for pod in pods.of_run(link_run.name)) == len(FILES) + 1
    assert "is gone" in link_run.log_text("link", map_index=FILES.index(killed_pod))


def test_all_files_are_linked_and_added_up(link_run: DagRun, deployment: Deployment) -> None:
    figures = link_run.metrics("join")
    assert (figures["files"], figures["documents"], figures["mentions"]) == (5, 5, 10)
    bodies = [deployment.s3.get_object(Bucket=BUCKET, Key=f"linked/{name}")["Body"].read() for name in FILES]
    assert len(set(bodies)) == 1, "equal files are linked equally"
    assert [link["mention"] for link in json.loads(bodies[0])["links"]] == ["Ember", "Quill"]
    (event,) = deployment.airflow.asset_events(DAG, link_run.run_id)
    assert event["extra"]["mentions"] == 10


def test_link_run_marked_as_failed_leaves_no_pod_that_runs(given_up_run: DagRun) -> None:
    namespace = given_up_run.deployment.namespace

    def may_run() -> list[str]:
        """Names of pods that have not ended by themselves."""
        pods = namespace.pods(run=given_up_run.name)
        return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]

    eventually(lambda: may_run() == [], "the end of the run's pods", 120)
    assert given_up_run.state() == "failed"


def places(out: str) -> dict[str, str]:
    """Returns what to link against what, and where to."""
    return {"kb": "sample", "in": f"s3://{BUCKET}/texts/", "out": f"s3://{BUCKET}/{out}/"}
