"""The recipe as a graph: each stage, what it reads, and what decides that its work can be reused.

Nothing here imports torch: a stage whose artifact exists ends before that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.config import (
    ALL_SPLITS,
    HELDOUT_SPLITS,
    CompareConfig,
    DownloadConfig,
    PromoteConfig,
    Recipe,
    Split,
    TrainBiencoderConfig,
    TrainCrossencoderConfig,
)
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import HubModel, LocalPath, located, model_location, weights_location
from zeshel_tasks.pipeline.contract import Stage
from zeshel_tasks.report.results_table import results_table
from zeshel_tasks.store import Artifact, Metrics, Run
from zeshel_tasks.store.identity import content_identity


def _data_identity(config: DownloadConfig, _: Run) -> dict[str, str]:
    from zeshel_tasks.download.sources import identities

    return identities(config)


def _bert_identity(bert_model: str, run: Run) -> str:
    location = located("bert_model", bert_model, model_location)
    if isinstance(location, HubModel):
        from zeshel_tasks.download.hub import hub_identity

        return hub_identity(location, run.store)
    if isinstance(location, LocalPath) and not location.path.is_dir():
        raise ConfigError(f"bert_model: expected a model on the hub or an existing directory, got {bert_model!r}")
    return content_identity(location)


def _biencoder_start(config: TrainBiencoderConfig, run: Run) -> dict[str, str]:
    return _start(config.bert_model, config.biencoder_weights, run)


def _crossencoder_start(config: TrainCrossencoderConfig, run: Run) -> dict[str, str]:
    return _start(None if config.from_biencoder else config.bert_model, config.crossencoder_weights, run)


def _start(bert_model: str | None, weights: str | None, run: Run) -> dict[str, str]:
    identities = {} if bert_model is None else {"bert_model": _bert_identity(bert_model, run)}
    return identities if weights is None else identities | {"weights": content_identity(weights_location(weights))}


def _champion(_: CompareConfig, run: Run) -> dict[str, str]:
    own, champions = _crossencoder(run), read_champions(run.store)
    rival = champions.rival_of(own)
    return {"champion": "none" if rival is None else rival.crossencoder}


def _standing(_: PromoteConfig, run: Run) -> dict[str, str]:
    own, champions = _crossencoder(run), read_champions(run.store)
    rival, rolled_back = champions.rival_of(own), champions.rolled_back(own)
    standing = {"champion": "none" if rival is None else rival.crossencoder}
    return standing | ({} if rolled_back is None else {"rolled_back": rolled_back.at})


def _was_promoted(metrics: Metrics, run: Run) -> bool:
    """Not so where somebody has put another ``models/champion.json`` into the store since."""
    return not metrics["promoted"] or read_champions(run.store).knows(_crossencoder(run))


def _run_report(
    run: Run, recipe: Recipe, report: Artifact, inputs: Mapping[str, Artifact]
) -> Iterable[tuple[str, bytes]]:
    from zeshel_tasks.report.run_report import run_report

    return run_report(run, recipe, report, inputs)


def _crossencoder(run: Run) -> str:
    record = run.record("train-crossencoder")
    assert record is not None  # it is an input
    return record.artifact


_EVALUATIONS = (
    "eval-biencoder-train", "eval-biencoder-valid", "eval-biencoder-test",
    "eval-crossencoder-valid", "eval-crossencoder-test",
)  # fmt: skip
_OF_HELDOUT = tuple(f"{stage}-{split}" for stage in ("eval-biencoder", "eval-crossencoder") for split in HELDOUT_SPLITS)

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("download", outside=_data_identity),
        Stage("convert", inputs=("download",)),
        Stage("train-biencoder", inputs=("download", "convert"), outside=_biencoder_start),
        Stage("eval-biencoder", inputs=("download", "convert", "train-biencoder"), splits=ALL_SPLITS),
        Stage(
            "train-crossencoder",
            inputs=("download", "convert", "train-biencoder", "eval-biencoder-train", "eval-biencoder-valid"),
            outside=_crossencoder_start,
        ),
        Stage(
            "eval-crossencoder",
            inputs=("download", "convert", "eval-biencoder-{split}", "train-crossencoder"),
            splits=("valid", "test", *HELDOUT_SPLITS),
        ),
        Stage(
            "compare",
            inputs=(
                "download",
                "convert",
                "train-biencoder",
                "train-crossencoder",
                "eval-biencoder-test",
                "eval-crossencoder-test",
            ),
            outside=_champion,
        ),
        Stage(
            "report",
            inputs=("download", "convert", "train-biencoder", "train-crossencoder", *_EVALUATIONS, "compare"),
            inputs_if_there=_OF_HELDOUT,
            published=_run_report,
            shown=results_table,
        ),
        Stage(
            "promote",
            inputs=("train-biencoder", "train-crossencoder", "compare"),
            outside=_standing,
            still_true=_was_promoted,
        ),
    )
}

RECIPE: tuple[tuple[Stage, Split | None], ...] = tuple(
    (stage, split) for stage in STAGES.values() for split in stage.splits or (None,)
)
"""All stages of a run with their splits, in an order in which each finds its inputs."""
