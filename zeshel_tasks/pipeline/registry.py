"""The recipe: its stages in order, with their inputs and their descriptions for users.

The DAG, the command line, tracking, ``zeshel show`` and the links to the report all read this list. Importing it is
cheap, because the modules of the stages are imported only when they have work to do.
"""

from __future__ import annotations

from zeshel_tasks.config.splits import ALL_SPLITS, HELDOUT_SPLITS, SPLITS, Split
from zeshel_tasks.pipeline import outside
from zeshel_tasks.pipeline.stage import Stage, Step, imported

_DATA = ("download", "convert")
_MODELS = ("train-biencoder", "train-crossencoder")
_RANKED = ("valid", "test", *HELDOUT_SPLITS)


def _both(split: Split) -> tuple[str, str]:
    """The evaluations of both models on a split."""
    return f"eval-biencoder-{split}", f"eval-crossencoder-{split}"


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "download",
            imported("zeshel_tasks.stages.download:work"),
            "Download the data sets, unpack them safely and check that they have ZESHEL's format.",
            "Wrong address, checksum or content: exit code 2 or 3. Server down: 75.",
            section="data",
            outside=outside.data_sets,
        ),
        Stage(
            "convert",
            imported("zeshel_tasks.stages.convert:work"),
            "Convert the mentions and their contexts to BLINK's format.",
            "A broken mention ends it with file, line and field, unless `convert.on_bad_mention` is `skip`.",
            section="data",
            inputs=("download",),
        ),
        Stage(
            "train-biencoder",
            imported("zeshel_tasks.stages.train_biencoder:work"),
            "Train the bi-encoder that retrieves candidate entities.",
            "The best epoch on valid is kept. A retry resumes from the last checkpoint. Out of memory: lower "
            "`train_biencoder.train_batch_size` or raise `gradient_accumulation_steps`.",
            section="training",
            inputs=_DATA,
            outside=outside.biencoder_start,
            checks=("train-crossencoder",),
        ),
        Stage(
            "fit-retrieval",
            imported("zeshel_tasks.stages.fit_retrieval:work"),
            "Fit the weights with which bi-encoder, BM25 and names retrieve together.",
            "They are fitted on valid. With `fit_retrieval.hybrid` off, the bi-encoder retrieves alone, and there is "
            "nothing to do.",
            section="retrieval",
            inputs=(*_DATA, "train-biencoder"),
        ),
        Stage(
            "eval-biencoder",
            imported("zeshel_tasks.stages.eval_biencoder:work"),
            "Retrieve the candidates of each mention and measure recall@k.",
            "The entities of each world are encoded once. The cross-encoder reads the candidates.",
            section="retrieval",
            inputs=(*_DATA, "train-biencoder", "fit-retrieval"),
            splits=ALL_SPLITS,
        ),
        Stage(
            "train-crossencoder",
            imported("zeshel_tasks.stages.train_crossencoder:work"),
            "Train the cross-encoder that picks the gold entity among the candidates.",
            "The best epoch on valid is kept. A retry resumes from the last checkpoint.",
            section="training",
            inputs=(*_DATA, "train-biencoder", "eval-biencoder-train", "eval-biencoder-valid"),
            outside=outside.crossencoder_start,
        ),
        Stage(
            "eval-crossencoder",
            imported("zeshel_tasks.stages.eval_crossencoder:work"),
            "Score the candidates of each mention with the cross-encoder and measure its accuracy.",
            section="linking",
            inputs=(*_DATA, "eval-biencoder-{split}", "train-crossencoder"),
            splits=_RANKED,
        ),
        Stage(
            "fuse",
            imported("zeshel_tasks.stages.fuse:work"),
            "Combine cross-encoder and retrieval scores, and measure normalized and unnormalized accuracy.",
            "The weights are fitted on valid, where the combination is at least as accurate as either score alone. "
            "Needs no model and takes seconds.",
            section="linking",
            inputs=("convert", *_both("valid"), *_both("test")),
            optional_inputs=tuple(name for split in HELDOUT_SPLITS for name in _both(split)),
        ),
        Stage(
            "calibrate",
            imported("zeshel_tasks.stages.calibrate:work"),
            "Fit the probability that a link is right, and that a mention has no entity; measure both.",
            "They are fitted on valid, with and without the golds. Needs no model and takes seconds.",
            section="calibration",
            inputs=(*_both("valid"), *_both("test"), "fuse"),
            optional_inputs=tuple(name for split in HELDOUT_SPLITS for name in _both(split)),
        ),
        Stage(
            "compare",
            imported("zeshel_tasks.stages.compare:work"),
            "Compare the model with the champion on the same test mentions.",
            "The champion is evaluated first if it has not been evaluated on these mentions. The intervals come from a "
            "paired bootstrap. Without a champion there is nothing to do.",
            section="champion",
            inputs=(*_DATA, *_MODELS, *_both("test"), "fuse"),
            outside=outside.rival,
        ),
        Stage(
            "report",
            imported("zeshel_tasks.stages.report:work"),
            "Write the run's report: metrics, charts and mistakes.",
            "The files are `report/index.html` and `report/metrics.json` in the run's folder.",
            section="results",
            inputs=(
                *_DATA,
                *_MODELS,
                "fit-retrieval",
                *(f"eval-biencoder-{split}" for split in SPLITS),
                *(f"eval-crossencoder-{split}" for split in SPLITS if split in _RANKED),
                "fuse",
                "calibrate",
                "compare",
            ),
            optional_inputs=tuple(name for split in HELDOUT_SPLITS for name in _both(split)),
            deliver=imported("zeshel_tasks.report.run_report:publish_report"),
        ),
        Stage(
            "promote",
            imported("zeshel_tasks.stages.promote:work"),
            "Make the model the champion if it is better.",
            "The champion is in `models/champion.json`; see `promote.margin` and `promote.max_world_drop`. The task's "
            "log and XCom hold the decision and its reason. `zeshel rollback` restores the champion before this one.",
            section="champion",
            inputs=(*_MODELS, "fit-retrieval", "fuse", "calibrate", "compare"),
            outside=outside.standing,
            deliver=imported("zeshel_tasks.stages.promote:deliver"),
        ),
    )
}

RECIPE: tuple[Step, ...] = tuple(Step(stage, split) for stage in STAGES.values() for split in stage.splits or (None,))
"""All steps of a run. Each comes after its inputs."""
