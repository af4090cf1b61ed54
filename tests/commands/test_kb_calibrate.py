"""``zeshel kb calibrate``: what it refuses. Candidates and their scores are given, so no model is needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.linking.test_cascade import fitted, two_models
from zeshel_tasks.cli import main
from zeshel_tasks.commands import kb_calibrate
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA, EXIT_OK
from zeshel_tasks.link_files.lines import LineReader
from zeshel_tasks.linking.cascade import Calibrations
from zeshel_tasks.linking.fit_calibration import fit_calibration
from zeshel_tasks.linking.linker import Linked


@dataclass
class FakeLinking:
    """Links every mention to the first of some entities, whose ids are their positions."""

    calibrations: Calibrations
    entities_count: int = 2
    store: None = None
    name: str = "beasts"
    kept: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def models(self) -> Any:
        manifest = SimpleNamespace(fingerprint="b" * 64)
        return SimpleNamespace(
            calibrations=lambda: self.calibrations,
            run="r1",
            fingerprint="m" * 64,
            biencoder=SimpleNamespace(manifest=manifest),
        )

    @property
    def entities(self) -> Any:
        return SimpleNamespace(position=lambda name: int(name) if int(name) < self.entities_count else None)

    @property
    def linker(self) -> Any:
        return SimpleNamespace(link=self._link)

    def reader(self, name: str) -> LineReader:
        return LineReader(name, 8, "code_points", False, lambda _: None)

    def _link(self, mentions: Iterable[Any]) -> Iterator[Linked]:
        scores = -np.arange(self.entities_count, dtype=np.float32)
        for _ in mentions:
            yield Linked(np.arange(self.entities_count), scores, scores, scores, 0.5, None, None)


@pytest.fixture(scope="module")
def calibrations() -> Calibrations:
    scores = two_models(mentions=300)
    return Calibrations(fit_calibration(scores).calibration, fitted(scores).cascade)


@pytest.fixture
def linking(calibrations: Calibrations, monkeypatch: pytest.MonkeyPatch) -> FakeLinking:
    made = FakeLinking(calibrations)
    monkeypatch.setattr(kb_calibrate, "Linking", lambda *arguments, **options: made)
    monkeypatch.setattr(
        "zeshel_tasks.knowledge_base.calibrating.set_calibration", lambda *arguments: made.kept.append(arguments)
    )
    return made


def calibrate(folder: Path, *labels: str | None) -> int:
    """Runs the command on a mention for each label."""
    file = folder / "labelled.jsonl"
    file.write_text("".join(json.dumps({"text": "a [[b]]", "entity": label}) + "\n" for label in labels))
    return main(["kb", "calibrate", "--store", str(folder), "--name", "beasts", "--in", str(file)])


def test_base_of_one_entity_needs_mentions_without_an_entity(
    linking: FakeLinking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    linking.entities_count = 1
    assert calibrate(tmp_path, *["0"] * 50) == EXIT_DATA
    assert "labelled.jsonl: nothing to compare with; expected a mention whose entity is null" in capsys.readouterr().out
    assert not linking.kept
    assert calibrate(tmp_path, *["0"] * 50, None) == EXIT_OK
    ((*_, figures),) = linking.kept
    assert (figures["mentions"], figures["nil"]) == (51, 1)


def test_number_of_mentions_is_limited(
    linking: FakeLinking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zeshel_tasks.linking.own_calibration.MOST_MENTIONS", 60)
    assert calibrate(tmp_path, *["0"] * 61) == EXIT_DATA
    assert "labelled.jsonl: too many mentions; expected at most 60; got more" in capsys.readouterr().out
    assert calibrate(tmp_path, *["0"] * 49, *[None] * 11) == EXIT_DATA
    assert "too few mentions; expected at least 50 mentions of entities" in capsys.readouterr().out
    assert calibrate(tmp_path, *["0"] * 60) == EXIT_OK


def test_models_without_a_cascade_are_refused(
    linking: FakeLinking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for earlier in (Calibrations(), Calibrations(linking.calibrations.reranked)):
        linking.calibrations = earlier
        assert calibrate(tmp_path, *["0"] * 50) == EXIT_CONFIG
        expected = "ERROR: expected models with a cascade, got those of run r1, which are of an earlier version"
        assert expected in capsys.readouterr().out
