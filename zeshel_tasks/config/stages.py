"""The settings of all stages of a run, which ``recipe.py`` builds from a preset and overrides."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.config.crossencoder import EvalCrossencoderConfig, TrainCrossencoderConfig
from zeshel_tasks.config.data import ConvertConfig, DownloadConfig
from zeshel_tasks.config.results import CalibrateConfig, CompareConfig, FuseConfig, PromoteConfig, ReportConfig
from zeshel_tasks.config.retrieval import EvalBiencoderConfig, FitRetrievalConfig
from zeshel_tasks.config.stage_config import StageConfig

Preset = Literal["blink", "recommended", "best", "smoke"]


class Recipe(BaseModel):
    """The settings of all stages of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset = "recommended"
    download: DownloadConfig = DownloadConfig()
    convert: ConvertConfig = ConvertConfig()
    train_biencoder: TrainBiencoderConfig = TrainBiencoderConfig()
    fit_retrieval: FitRetrievalConfig = FitRetrievalConfig()
    eval_biencoder: EvalBiencoderConfig = EvalBiencoderConfig()
    train_crossencoder: TrainCrossencoderConfig = TrainCrossencoderConfig()
    eval_crossencoder: EvalCrossencoderConfig = EvalCrossencoderConfig()
    fuse: FuseConfig = FuseConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    compare: CompareConfig = CompareConfig()
    report: ReportConfig = ReportConfig()
    promote: PromoteConfig = PromoteConfig()


STAGE_CONFIGS: dict[str, type[StageConfig]] = {
    name: field.annotation  # type: ignore[misc]  # every field but `preset` is a StageConfig
    for name, field in Recipe.model_fields.items()
    if name != "preset"
}
