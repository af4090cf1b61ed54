"""A morning with the DAG in Airflow's own pages, in a real browser. Each test continues where the one before stopped.

Screenshots are written to ``build/screenshots`` or to the folder that ``SCREENSHOTS`` names.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Locator, Page, ViewportSize, expect, sync_playwright

from tests.orchestration.real_airflow import DAG, ended, running_airflow
from tests.orchestration.test_linking_run import DAG as LINK_DAG
from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.demo.local_airflow import LocalAirflow
from zeshel_tasks.orchestration.settings import path_safe
from zeshel_tasks.store import LocalStore

ROOT = Path(__file__).parents[2]
SECONDS = 240.0
SIZE: ViewportSize = {"width": 1440, "height": 960}
EVALS = ("eval-biencoder-train", "eval-biencoder-valid", "eval-biencoder-test")
# Defaults as in a deployment, so a person only enters the data set. Evaluations take long enough to be seen at once.
DEFAULTS = {
    "preset": "smoke",
    "approve": True,
    "bert_model": str(ROOT / "tests" / "golden" / "bert"),
    "gpus": 0,
    "print_interval": 2,
    "convert.max_mentions_per_world": 40,
    "max_context_length": 32,
    "max_cand_length": 128,
    "eval_biencoder.top_k": 16,
    "encode_batch_size": 4,
    "train_crossencoder.num_train_epochs": 1,
    "train_crossencoder.max_seq_length": 128,
    "train_crossencoder.checkpoint_minutes": 0.05,
}
pytestmark = pytest.mark.timeout(900)


@dataclass
class Morning:
    """State that the tests share.

    Attributes:
        run_id: id of the run that a person triggered.
    """

    airflow: LocalAirflow
    page: Page
    store: LocalStore
    data_set: Path
    shots: Path
    run_id: str = ""

    def open(self, path: str) -> None:
        self.page.goto(f"{self.airflow.url}{path}")

    def open_task(self, task: str) -> None:
        self.open(f"/dags/{DAG}/runs/{self.run_id}/tasks/{task}")

    def rest(self) -> None:
        """Leaves the page, which would take a quarter of a core while nobody looks."""
        self.page.goto("about:blank")

    def row(self, task: str) -> Locator:
        """Returns the task's row in the run's table of task instances."""
        return self.page.get_by_role("row").filter(has=self.page.get_by_role("link", name=task, exact=True))

    def shot(self, name: str) -> None:
        self.page.screenshot(path=self.shots / f"{name}.png")

    def wait(self, what: Callable[[], Any], meaning: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not what():
            self.airflow.check()
            assert time.monotonic() < deadline, f"expected {meaning}; the page says:\n{self.page.inner_text('body')}"
            self.page.wait_for_timeout(300)

    def states(self) -> dict[str, str | None]:
        return {task.task_id: task.state for task in self.airflow.client.task_states(DAG, self.run_id)}


@pytest.fixture(scope="module")
def morning(
    chromium: str, migrated_home: Path, sample_worlds: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Morning]:
    folder = tmp_path_factory.mktemp("browser")
    shots = Path(os.environ.get("SCREENSHOTS") or ROOT / "build" / "screenshots")
    shots.mkdir(parents=True, exist_ok=True)
    variables = {"ZESHEL_RETRIES": "0", "OMP_NUM_THREADS": "1", "ZESHEL_DEFAULTS": json.dumps(DEFAULTS)}
    with running_airflow(folder, migrated_home, variables) as airflow, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(viewport=SIZE).new_page()
        page.context.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield Morning(airflow, page, LocalStore(folder / "store"), sample_worlds, shots)
        browser.close()


def test_user_logs_in(morning: Morning) -> None:
    morning.open("/")
    page = morning.page
    page.locator("input[name=username]").fill(morning.airflow.username)
    page.locator("input[name=password]").fill(morning.airflow.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "login" not in url)


def test_dag_page_shows_owner_and_documentation(morning: Morning) -> None:
    morning.open(f"/dags/{DAG}")
    page = morning.page
    expect(page.get_by_text("entity-linking").first).to_be_visible()
    expect(page.get_by_text("Owner", exact=True)).to_be_visible()
    page.get_by_role("button", name=re.compile("documentation|docs", re.IGNORECASE)).last.click()
    expect(page.get_by_text("When a task fails")).to_be_visible()
    morning.shot("documentation")
    page.keyboard.press("Escape")


def test_form_of_the_link_dag_waits_for_what_it_needs(morning: Morning) -> None:
    morning.open(f"/dags/{LINK_DAG}")
    page = morning.page
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    start = form.get_by_role("button", name="Trigger")
    for name, value in {"in": "s3://bucket/texts/", "out": "s3://bucket/links/", "kb": "products"}.items():
        expect(start).to_be_disabled()
        field(form, name).fill(value)
    expect(start).to_be_enabled()
    form.get_by_text("Links", exact=True).click()
    field(form, "threshold").fill("precision=0.95")
    morning.shot("link-form")


def test_form_refuses_an_invalid_value(morning: Morning) -> None:
    morning.open(f"/dags/{DAG}")
    page = morning.page
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    form.get_by_text("Train biencoder", exact=True).click()
    field(form, "train_biencoder.learning_rate").fill("7")
    form.get_by_role("button", name="Trigger").click()
    expect(page.get_by_text("Failed to Trigger Dag").first).to_be_visible()
    morning.shot("refused")
    assert morning.airflow.client.run_ids(DAG) == []


def test_valid_values_start_a_run(morning: Morning) -> None:
    page = morning.page
    form = page.get_by_role("dialog")
    field(form, "train_biencoder.learning_rate").fill("2e-4")
    form.get_by_text("Download", exact=True).click()
    field(form, "download.source").fill(str(morning.data_set))
    morning.shot("form")
    form.get_by_role("button", name="Trigger").click()
    morning.wait(lambda: morning.airflow.client.run_ids(DAG), "a run")
    (morning.run_id,) = morning.airflow.client.run_ids(DAG)


def field(form: Locator, name: str) -> Locator:
    """Returns the field of a Param, after opening its section."""
    return form.locator(f"[name='element_{name}']")


def test_log_shows_the_progress_of_a_running_training(morning: Morning) -> None:
    morning.wait(lambda: morning.states().get("train-biencoder") == "running", "a running training")
    morning.open_task("train-biencoder")
    expect(morning.page.get_by_text(re.compile(r"step \d+/\d+.*loss")).first).to_be_visible(timeout=120_000)
    morning.shot("progress")


def test_grid_and_graph_show_parallel_evaluations(morning: Morning) -> None:
    """In the grid's table, and in the graph beside it, which opens in its own window."""
    morning.open(f"/dags/{DAG}/runs/{morning.run_id}")
    graph = morning.page.context.new_page()
    graph.goto(morning.page.url)
    graph.get_by_role("button", name=re.compile("Show Graph")).click()
    nodes = [graph.get_by_test_id(f"rf__node-{task}") for task in EVALS]
    seen: set[str] = set()

    def look() -> bool:
        if all(morning.row(task).get_by_text("Running").count() for task in EVALS) and "grid" not in seen:
            morning.shot("grid")
            seen.add("grid")
        if all(node.get_by_text("Running").count() for node in nodes) and "graph" not in seen:
            graph.screenshot(path=morning.shots / "graph.png")
            seen.add("graph")
        return seen == {"grid", "graph"}

    morning.wait(look, "three evaluations that run at once, in grid and graph")
    graph.get_by_role("button", name=re.compile("Show Grid")).click()  # the browser remembers the choice
    graph.close()


def test_killed_training_resumes_from_its_checkpoint_when_cleared(morning: Morning) -> None:
    task, page = "train-crossencoder", morning.page
    morning.rest()
    morning.wait(lambda: checkpoints(morning), "a checkpoint")
    for process in processes_of(task, morning.store):
        process.send_signal(signal.SIGKILL)
    morning.wait(lambda: morning.states()[task] == "failed", "a failed task")
    morning.open_task(task)
    expect(page.get_by_text("Failed", exact=True).first).to_be_visible()
    expect(page.get_by_text("ended by signal 9").first).to_be_visible()
    morning.shot("failed")
    page.get_by_role("button", name="Press shift+c to clear").click()
    page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
    morning.wait(lambda: morning.states()[task] != "failed", "a cleared task")
    morning.rest()
    morning.wait(lambda: morning.states()[task] == "success", "a task that has resumed and is done")
    morning.open_task(task)
    resumed = page.get_by_text(re.compile(r"resuming at step \d+ from a checkpoint"))
    to_top = page.get_by_role("button", name="Press Ctrl+↑ to scroll to top")
    expect(resumed.or_(to_top).first).to_be_visible()
    if not resumed.is_visible():  # invisible lines of a long log are not rendered
        to_top.click()
    expect(resumed).to_be_visible()
    morning.shot("resumed")


def checkpoints(morning: Morning) -> list[str]:
    keys = morning.store.keys("artifacts/train-crossencoder/")
    return [key for key in keys if "/checkpoints/" in key and key.endswith("/checkpoint.json")]


def processes_of(command: str, store: LocalStore) -> list[psutil.Process]:
    """Returns the processes of the stage, and no others on this machine."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if command in line and any(argument.startswith(f"--run={store.address}/") for argument in line):
            found.append(process)
    assert found, f"expected a process of {command}"
    return found


def test_approval_page_shows_the_decision_and_promotes(morning: Morning) -> None:
    page = morning.page
    morning.rest()
    morning.wait(lambda: morning.states()["approve"] == "awaiting_input", "a question")
    morning.open(f"/dags/{DAG}/required_actions")
    question = page.get_by_role("dialog", name="Required Actions")  # the page opens it by itself
    expect(question.get_by_text("The gate says: there was no champion.")).to_be_visible()
    expect(question.get_by_role("link", name="its report")).to_have_attribute(
        "href", re.compile(r"^/zeshel/runs/.*/report#")
    )
    morning.shot("approval")
    question.get_by_role("button", name="Approve").click()
    assert set(ended(morning.airflow, morning.run_id).values()) == {"success", "skipped"}
    champion = read_champions(morning.store).champion
    assert champion is not None
    assert champion.run == path_safe(morning.run_id)


def test_report_log_has_the_results_table(morning: Morning) -> None:
    morning.open_task("report")
    expect(morning.page.get_by_text(re.compile(r"\| test\s+\|"))).to_be_visible()
    morning.shot("results")


def test_task_links_open_the_report_and_the_artifact(morning: Morning) -> None:
    page, run = morning.page, path_safe(morning.run_id)
    for task, link, address, heading in (
        ("train-biencoder", "Artifact", f"/zeshel/runs/{run}/stages/train-biencoder", "h1"),
        ("train-biencoder", "Report", f"/zeshel/runs/{run}/report#training", "#training h2"),
        ("report", "Report", f"/zeshel/runs/{run}/report#results", "#results h2"),
    ):
        morning.open(f"/dags/{DAG}/runs/{morning.run_id}/tasks/{task}/details")
        page.get_by_role("link", name=link, exact=True).click()
        page.wait_for_url(f"{morning.airflow.url}{address}")
        expect(page.locator(heading)).to_be_in_viewport()
        morning.shot(link.lower())
