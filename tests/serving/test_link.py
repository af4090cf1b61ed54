"""``POST /v1/link``: the answers of ``zeshel link``."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import WORLD
from tests.serving.running import Running, document
from zeshel_tasks.cli import main
from zeshel_tasks.config.link import LINK_MODES
from zeshel_tasks.errors import EXIT_OK
from zeshel_tasks.store import Run

TEXTS = [
    document("They saw the sword of the old beast, (twice) .", "sword", "old beast", id="a", metadata={"k": [1, None]}),
    document("Nothing here .", id="b"),
    document("😀 the Wüste of\r\nthe north", "Wüste", "north"),
]


@pytest.mark.parametrize("mode", LINK_MODES)
def test_answers_are_those_of_the_command(served: Running, run: Run, tmp_path: Path, mode: str) -> None:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    arguments = ["link", "--store", run.store.address, "--kb", WORLD, "--in", str(tmp_path / "in.jsonl")]
    assert main([*arguments, "--out", str(tmp_path / "out.jsonl"), "--top-k", "3", "--mode", mode]) == EXIT_OK
    expected = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    answer = served.link(WORLD, *TEXTS, top_k=3, mode=mode).json()
    assert [found["links"] for found in answer["documents"]] == [line["links"] for line in expected]
    assert answer["linked_by"] == expected[0]["linked_by"]
    assert [found.get("id") for found in answer["documents"]] == ["a", "b", None]
    assert answer["documents"][0]["metadata"] == {"k": [1, None]}
    assert "metadata" not in answer["documents"][1]


def test_offsets_may_count_as_javascript_does(served: Running) -> None:
    text = {"text": "😀 the sword", "mentions": [{"start": 7, "end": 12, "text": "sword"}]}
    (link,) = served.links(WORLD, text, offsets="utf16")
    assert (link["start"], link["end"], link["mention"]) == (7, 12, "sword")


def test_a_request_may_choose_a_threshold(served: Running) -> None:
    text = document("the sword of", "sword")

    def is_nil(threshold: Any) -> bool:
        (link,) = served.links(WORLD, text, threshold=threshold)
        return bool(link["nil"])

    assert [is_nil(threshold) for threshold in (0, 0.0, 1, 1.0)] == [False, False, True, True]
    answer = served.link(WORLD, text, threshold="precision=0.01")
    assert answer.status_code == 200
    assert served.link(WORLD, text, threshold="precision=1").status_code in (200, 422)  # as valid allows


def test_bases_are_listed(served: Running, run: Run) -> None:
    (found,) = served.client.get("/v1/kbs").json()["kbs"]
    (link,) = served.link(WORLD, document("a sword", "sword")).json()["documents"]
    assert (found["kb"], found["run"], found["champion"]) == (WORLD, run.run_id, True)
    assert (found["calibrated_by"], found["calibration"]) == ("champion", None)
    assert found["entities"] == len(served.service.follower.bases[WORLD].entities)
    assert link["links"]


def test_probes_and_metrics(served: Running) -> None:
    served.link(WORLD, document("a sword", "sword"))
    assert served.client.get("/livez").json() == {"status": "alive"}
    assert served.client.get("/readyz").json() == {"status": "ready"}
    page = served.client.get("/metrics")
    assert page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert f'zeshel_mentions_total{{kb="{WORLD}"}}' in page.text
    assert 'zeshel_requests_total{method="POST",path="/v1/link",status="200"}' in page.text


@pytest.mark.parametrize("path", ["/", "/page.js", "/v1/kbs", "/openapi.json", "/nowhere"])
def test_every_answer_has_a_strict_policy(served: Running, path: str) -> None:
    answer = served.client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_page_loads_nothing_from_elsewhere(served: Running) -> None:
    for path in ("/", "/page.css", "/page.js"):
        text = served.client.get(path).text
        assert "//" not in text.replace("// Offsets", "")
