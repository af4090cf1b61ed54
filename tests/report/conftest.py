"""Example results in the form of a real run."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from zeshel_tasks import __version__
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.report.curves import ThinCurve, thin_curve
from zeshel_tasks.report.report_data import EntityText, ReportData, RunFacts
from zeshel_tasks.training.metrics import CurvePoint

CUTOFFS = (1, 4, 8, 16, 32, 64)
ZESHEL = {
    "test": ("forgotten_realms", "lego", "star_trek", "yugioh"),
    "valid": ("coronation_street", "elder_scrolls", "ice_hockey", "muppets"),
    "train": (
        *("american_football", "doctor_who", "fallout", "final_fantasy"),
        *("military", "pro_wrestling", "starwars", "world_of_warcraft"),
    ),
}
SENTENCE = (
    "the captain of the second expedition left the harbour before dawn , although the harbour master had warned him "
    "that the northern passage was closed until the end of the month and that no pilot would go with him "
)


@pytest.fixture(scope="session")
def build_data() -> Callable[..., ReportData]:
    """A function that returns the data of a report, see :func:`example_data`."""
    return example_data


@pytest.fixture(scope="session")
def build_run() -> Callable[..., RunFacts]:
    """A function that returns the facts of a run, see :func:`example_run`."""
    return example_run


def example_run(**changes: Any) -> RunFacts:
    """Returns a run that made some stages and reused others, and has a history. ``changes`` replace whole fields."""
    values: dict[str, Any] = {
        "address": "s3://models/zeshel/runs/manual__2025-11-23T06:08:00",
        "preset": "recommended",
        "created_at": "2025-11-23T14:02:11+00:00",
        "package_version": __version__,
        "stages": _stages(),
        "history": [_past_run(week) for week in range(5)],
    }
    return RunFacts.model_validate({**values, **changes})


def example_data(
    worlds: dict[str, tuple[str, ...]] = ZESHEL, points: int = 1900, num_mistakes: int = 6, **changes: Any
) -> ReportData:
    """Returns the measurements of a complete run. ``changes`` replace whole fields."""
    dice = random.Random(7)
    hardness = {"train": 0.7, "valid": 1.0, "test": 1.25}
    recall = {split: _recall(names, hardness[split], dice) for split, names in worlds.items()}
    values: dict[str, Any] = {
        "recall": recall,
        "linking": _linking({split: recall[split] for split in worlds if split != "train"}, dice),
        "calibration": _calibration({split: recall[split] for split in worlds if split != "train"}),
        "comparison": _comparison(worlds.get("test", ()), dice),
        "training": {"train-biencoder": _training(0.9, 0.93), "train-crossencoder": _training(0.7, 0.76, dropped=5120)},
        "curves": {name: _curve(points, dice) for name in ("train-biencoder", "train-crossencoder")},
        "convert": _convert(recall),
        "configuration": _configuration(),
        "provenance": _provenance(),
        "mistakes": [_mistake(number, dice) for number in range(num_mistakes)],
    }
    return ReportData.model_validate({**values, **changes})


def _recall(names: tuple[str, ...], hardness: float, dice: random.Random) -> dict[str, Any]:
    worlds = {}
    for name in names:
        start = dice.uniform(0.35, 0.6)
        rates = {str(k): round(1 - hardness * (1 - start) * k**-0.42, 4) for k in CUTOFFS}
        worlds[name] = {
            "mentions": dice.randrange(600, 4000),
            "entities": dice.randrange(9000, 105000),
            "recall": rates,
        }
    mentions = sum(world["mentions"] for world in worlds.values())
    micro, macro = {}, {}
    for k in map(str, CUTOFFS):
        micro[k] = sum(world["recall"][k] * world["mentions"] for world in worlds.values()) / mentions
        macro[k] = sum(world["recall"][k] for world in worlds.values()) / len(worlds)
    entities = sum(world["entities"] for world in worlds.values())
    return {"mentions": mentions, "entities": entities, "recall": {"micro": micro, "macro": macro}, "worlds": worlds}


def _accuracy(recall: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    worlds = {
        name: _group(world["mentions"], round(world["mentions"] * world["recall"]["64"]), dice)
        for name, world in recall["worlds"].items()
    }
    mentions = recall["mentions"]
    retrieved = sum(group["retrieved"] for group in worlds.values())
    shares = {"HIGH_OVERLAP": 0.08, "AMBIGUOUS_SUBSTRING": 0.09, "MULTIPLE_CATEGORIES": 0.26, "LOW_OVERLAP": 0.57}
    categories = {name: _group(int(mentions * share), int(retrieved * share), dice) for name, share in shares.items()}
    right = sum(group["unnormalized_accuracy"] * group["mentions"] for group in worlds.values())
    mean = {
        kind: sum(group[kind] for group in worlds.values()) / len(worlds)
        for kind in ("normalized_accuracy", "unnormalized_accuracy")
    }
    return {
        "mentions": mentions,
        "retrieved": retrieved,
        "normalized_accuracy": {"micro": right / retrieved, "macro": mean["normalized_accuracy"]},
        "unnormalized_accuracy": {"micro": right / mentions, "macro": mean["unnormalized_accuracy"]},
        "worlds": worlds,
        "categories": categories,
    }


def _linking(recall: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    parts = ("linker", "crossencoder", "retriever")
    return {
        "combines": "both",
        "weights": {"crossencoder": 0.83, "retrieval": 0.213},
        "splits": {split: {part: _accuracy(found, dice) for part in parts} for split, found in recall.items()},
    }


def _calibration(recall: dict[str, Any]) -> dict[str, Any]:
    dice = random.Random(11)  # its own, so that the other examples stay as they are

    def confidence(error: float) -> dict[str, Any]:
        return {
            "calibration_error": error + dice.uniform(0, 0.01),
            "risk_area": 0.15 + error + dice.uniform(0, 0.01),
            "at_threshold": {"linked": dice.uniform(0.3, 0.5), "precision": 0.96 - error + dice.uniform(0, 0.01)},
        }

    def group(mentions: int) -> dict[str, Any]:
        accuracy = dice.uniform(0.5, 0.7)
        return {"mentions": mentions, "accuracy": accuracy, "right": confidence(0.01), "softmax": confidence(0.08)}

    def bins(error: float) -> list[dict[str, Any]]:
        places = [(place + 0.5) / 15 for place in range(15)]
        return [{"mentions": 300, "probability": at, "right": max(0.0, at - error * at)} for at in places]

    def curve(height: float) -> list[dict[str, Any]]:
        return [{"coverage": step / 50, "risk": height * (step / 50) ** 2} for step in range(1, 51)]

    def of_split(found: dict[str, Any]) -> dict[str, Any]:
        return {
            **group(found["mentions"]),
            "risk_difference": {"difference": -0.07, "interval": [-0.0801, -0.0599]},
            "nil": {
                **{"mentions": 2 * found["mentions"], "area": 0.84, "softmax_area": 0.76, "precision": 0.79},
                **{"recall": 0.73, "f1": 0.7588, "calibration_error": 0.021},
            },
            "diagrams": {
                **{"reliability": bins(0.03), "softmax_reliability": bins(0.2)},
                **{"risk": curve(0.4), "softmax_risk": curve(0.5)},
            },
            "worlds": {name: group(world["mentions"]) for name, world in found["worlds"].items()},
        }

    def modes(reranked: float, loss: float) -> dict[str, Any]:
        known = {"rerank": (1.0, 0.0), "cascade": (reranked, loss), "retrieve": (0.0, 0.081)}
        return {
            mode: {"reranked": share, "accuracy": 0.62 - lost, "calibration_error": 0.01 + lost / 4}
            for mode, (share, lost) in known.items()
        }

    return {
        "linked_precision": 0.95,
        "threshold": 0.8712,
        "softmax_threshold": 0.9813,
        "right": {"log_odds": 0.42, "margin": 0.31, "crossencoder": 0.05},
        "none": {"log_odds": -0.37, "retrieval": -0.93},
        "cascade": {
            "loss": 0.003,
            "clear_from": 0.7921,
            "splits": {
                split: {"modes": modes(0.57, 0.0029), "worlds": {name: modes(0.57, 0.004) for name in found["worlds"]}}
                for split, found in recall.items()
            },
        },
        "splits": {split: of_split(found) for split, found in recall.items()},
    }


def _comparison(worlds: tuple[str, ...], dice: random.Random) -> dict[str, Any]:
    def group(mentions: int) -> dict[str, Any]:
        champion, difference = dice.uniform(0.5, 0.6), dice.uniform(0.01, 0.02)
        interval = [difference - 0.011, difference + 0.012]
        return {
            "mentions": mentions,
            "new": champion + difference,
            "champion": champion,
            "difference": difference,
            "interval": interval,
            "won": 220,
            "lost": 80,
            "may_be_chance": False,
        }

    return {
        "unnormalized_accuracy": 0.61,
        "champion": {
            "run": "scheduled__2025-11-16T03:00:00",
            "crossencoder": "artifacts/train-crossencoder/0f",
            "promoted_at": "2025-11-16T11:02:03+00:00",
        },
        "overall": group(10000),
        "worlds": {world: group(2500) for world in worlds},
    }


def _group(mentions: int, retrieved: int, dice: random.Random) -> dict[str, Any]:
    normalized = dice.uniform(0.62, 0.82)
    return {
        "mentions": mentions,
        "retrieved": retrieved,
        "normalized_accuracy": normalized,
        "unnormalized_accuracy": normalized * retrieved / mentions,
    }


def _training(first: float, last: float, dropped: int | None = None) -> dict[str, Any]:
    measure = "valid_recall" if dropped is None else "valid_accuracy"
    epochs = [
        {"epoch": epoch, "train_loss": 1.9 / epoch, measure: first + (last - first) * math.sin(epoch / 2.6)}
        for epoch in range(1, 6)
    ]
    searched = {"valid_recall_at_1": last / 2, "valid_top_k": 64, "valid_entities": 15_432}
    metrics = {
        "best_epoch": 4,
        measure: last,
        **(searched if dropped is None else {}),
        "training_seconds": 1343.4,
        "epochs": epochs,
        "steps": 1925,
        "mentions": 49275,
        "peak_learning_rate": 1e-5,
    }
    if dropped is None:
        metrics["pretrained"] = {"license": "apache-2.0", "datasets": ["bookcorpus", "wikipedia"]}
        metrics["vectors"] = {"pooling": "mean", "similarity": "cosine"}
    return {**metrics, "mentions_per_second": 183.4, "dropped_mentions": dropped}


def _curve(points: int, dice: random.Random) -> ThinCurve:
    lines: list[dict[str, Any]] = []
    for step in range(1, points + 1):
        loss = 0.35 + 2.6 * math.exp(-step * 5 / points) + dice.gauss(0, 0.07)
        epoch = step * 5 / points
        lines.append({"step": step, "epoch": epoch, "loss": max(0.01, loss), "learning_rate": 1e-5})
        if points >= 5 and step % (points // 5) == 0:
            lines.append({"step": step, "epoch": epoch, "valid_recall": 0.93 - 0.3 * math.exp(-epoch)})
    return thin_curve([CurvePoint.model_validate(line) for line in lines])


def _stages() -> list[dict[str, Any]]:
    rows = [
        ("download", True, 341.2, None, "cpu"),
        ("convert", True, 96.8, None, "cpu"),
        ("train-biencoder", False, 9120.4, 41233.0, "NVIDIA H100"),
        ("eval-biencoder-train", False, 1510.0, 9120.0, "NVIDIA H100"),
        ("eval-biencoder-valid", False, 322.9, 8120.0, "NVIDIA H100"),
        ("eval-biencoder-test", False, 298.1, 8090.0, "NVIDIA H100"),
        ("train-crossencoder", False, 40210.0, 61244.0, "NVIDIA H100"),
        ("eval-crossencoder-valid", False, 1180.0, 12010.0, "NVIDIA H100"),
        ("eval-crossencoder-test", False, 1173.3, 12010.0, "NVIDIA H100"),
        ("fuse", False, 3.1, None, "cpu"),
        ("calibrate", False, 4.2, None, "cpu"),
    ]
    return [
        {
            "name": name,
            "reused": reused,
            "wall_seconds": seconds,
            "peak_memory_mb": 812.5 + len(name) * 371,
            "peak_gpu_memory_mb": gpu,
            "device": device,
            "fingerprint": f"{index:02x}" * 32,
            "started_at": f"2025-11-23T{index:02}:12:31+00:00",
        }
        for index, (name, reused, seconds, gpu, device) in enumerate(rows)
    ]


def _convert(recall: dict[str, Any]) -> dict[str, Any]:
    worlds = {
        split: {
            name: {"mentions": world["mentions"], "mentions_in_data_set": world["mentions"] + 2, "skipped": 2}
            for name, world in metrics["worlds"].items()
        }
        for split, metrics in recall.items()
    }
    return {
        "mentions": {split: recall[split]["mentions"] for split in recall},
        "skipped": {split: 2 * len(recall[split]["worlds"]) for split in recall},
        "worlds": worlds,
        "capped": False,
        "heldout": {"heldout_train_seen": {"mentions": 5_003, "gold_in_train": 4_987}},
    }


def _configuration() -> dict[str, dict[str, Any]]:
    recipe = build_recipe("recommended", {"train_biencoder.learning_rate": 3e-5, "bert_model": "bert-base-uncased"})
    plain = recipe.model_dump(mode="json")
    trained = ("download", "convert", "train-biencoder", "eval-biencoder", "train-crossencoder")
    stages = (*trained, "eval-crossencoder", "fuse", "calibrate")
    return {stage: plain[stage.replace("-", "_")] for stage in stages}


def _provenance() -> dict[str, Any]:
    gpu = {"cpu": "AMD EPYC 9454", "cores": 16, "memory_gb": 128, "gpu": "NVIDIA H100 80GB"}
    plain = {"cpu": "Intel Xeon", "cores": 4, "memory_gb": 16, "gpu": None}
    stages = [stage["name"] for stage in _stages()]
    return {
        "sources": [
            {
                "source": "https://example.org/data/zeshel.tar.bz2",
                "identity": 'etag "5e1f-60a"',
                "sha256": "98d677c427d2f94723114b521bc6a9de0813db0c16446741451c635f24a64ffe",
                "bytes": 1_234_567,
                "worlds": ["aster", "brine"],
            }
        ],
        "worlds": 16,
        "documents": 492321,
        "models": {"train-biencoder": "hub:bert-base-uncased@86b5e0934494bd15c9632b12f734a8a67f723594"},
        "versions": {stage: {"python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.0"} for stage in stages},
        "hardware": {stage: plain if stage in ("download", "convert") else gpu for stage in stages},
    }


def _past_run(week: int) -> dict[str, Any]:
    return {
        "run": f"scheduled__2025-10-{5 + 7 * week:02}T03:00:00" if week < 4 else "manual__2025-11-23T06:08:00",
        "evaluated_at": f"2025-10-{3 + 6 * week:02}T09:00:00+00:00",
        "mentions": 10000,
        "unnormalized_accuracy": 0.55 + week / 100,
        "recall_at_1": 0.44 + week / 100,
        "recall_at_top_k": 0.83 + week / 100,
    }


def _mistake(number: int, dice: random.Random) -> dict[str, Any]:
    return {
        "split": "test",
        "world": dice.choice(ZESHEL["test"]),
        "category": dice.choice(("LOW_OVERLAP", "AMBIGUOUS_SUBSTRING")),
        "mention": dice.choice(("harbour master", "the second expedition", "northern passage")),
        "context_left": SENTENCE * 3,
        "context_right": SENTENCE * 2,
        "confidence": 0.9995 - number / 117,
        "gold_title": f"Northern Passage ( novel {number} )",
        "gold_text": EntityText.of(f"Northern Passage is the {number}th novel of the series . " + SENTENCE * 5),
        "gold_rank": None if number % 3 == 0 else number * 4 + 1,
        "predicted_title": "Northern Passage",
        "predicted_text": EntityText.of(
            "The Northern Passage is a strait in the far north . " + SENTENCE * (number % 4)
        ),
    }
