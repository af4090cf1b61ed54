"""A run of ``zeshel_link`` on a real Airflow, with the champion of an earlier run of ``zeshel``."""

import json
from pathlib import Path

import pytest

from tests.orchestration.real_airflow import wait
from tests.support.whole_airflow import RetrainedRun
from zeshel_tasks.demo.local_airflow import LocalAirflow
from zeshel_tasks.demo.local_airflow.client import AirflowRefused
from zeshel_tasks.orchestration.settings import run_address
from zeshel_tasks.store import open_run

DAG = "zeshel_link"
pytestmark = pytest.mark.timeout(900)


def test_files_are_linked_and_a_broken_one_again_once_it_is_corrected(
    airflow: LocalAirflow, airflow_folder: Path, retrained: RetrainedRun, tmp_path: Path
) -> None:
    client, store = airflow.client, str(airflow_folder / "store")
    download = open_run(run_address(store, retrained.run_id)).artifact("download", tmp_path / "cache")
    world = sorted(path for path in download.manifest.files if path.startswith("documents/"))[0]
    title = json.loads(download.path(world).read_text().splitlines()[0])["title"]
    (tmp_path / "in").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / "in" / name).write_text(json.dumps({"text": f"They saw [[{title}]] there ."}) + "\n")
    (tmp_path / "in" / "broken.jsonl").write_text("{}\n")
    conf = {"kb": "sample", "in": f"{tmp_path}/in", "out": f"{tmp_path}/out", "entities": [str(download.path(world))]}

    client.trigger(DAG, {**conf, "device": "cpu", "gpus": 0}, "links")
    assert ended(airflow) == {
        "models": "success", "knowledge-base": "success", "encode-segment": "skipped", "publish": "success",
        "list": "success", "join": "upstream_failed",
        "a.jsonl": "success", "b.jsonl": "success", "broken.jsonl": "failed",
    }  # fmt: skip
    said = "\n".join(line.text for line in client.log(DAG, "links", "link", 1, map_index=2))
    assert "broken.jsonl:1: no text; expected text" in said
    linked = json.loads((tmp_path / "out" / "a.jsonl").read_text())
    assert linked["links"][0]["mention"] == title

    (tmp_path / "in" / "broken.jsonl").write_text('{"text": "nothing"}\n')
    client.clear_failed(DAG, "links")
    assert {name for name, state in ended(airflow).items() if state != "success"} == {"encode-segment"}
    tries = {task.label: task.try_number for task in client.task_states(DAG, "links") if task.task_id == "link"}
    assert tries == {"a.jsonl": 1, "b.jsonl": 1, "broken.jsonl": 2}
    figures = client.xcom(DAG, "links", "join")
    assert (figures["kb"], figures["files"], figures["documents"], figures["mentions"]) == ("sample", 3, 3, 2)
    assert client.xcom(DAG, "links", "link", map_index=1)["files"] == ["b.jsonl"]
    (event,) = client.asset_events(DAG, "links")
    assert event["extra"]["made_from"]["models"] == client.xcom(DAG, "links", "models")["models"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["mentions"] == 2


@pytest.mark.parametrize(
    ("conf", "name"), [({}, "kb"), ({"kb": "k", "in": "i", "out": "o", "top_k": 0}, "top_k"), ({"in": " "}, "in")]
)
def test_rest_api_refuses_an_invalid_param(airflow: LocalAirflow, conf: dict[str, object], name: str) -> None:
    with pytest.raises(AirflowRefused, match=name) as caught:
        airflow.client.trigger(DAG, {**{"kb": "k", "in": "i", "out": "o"}, **conf} if conf else {})
    assert caught.value.status == 400


def ended(airflow: LocalAirflow) -> dict[str, str | None]:
    """Waits for the end of the run, and returns the state of each task by its name, or by its label."""
    wait(lambda: airflow.client.run_state(DAG, "links") in ("success", "failed"), "the end of the links", airflow)
    return {task.label or task.task_id: task.state for task in airflow.client.task_states(DAG, "links")}
