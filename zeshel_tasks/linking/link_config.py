"""The settings that mentions are linked with, which depend on the models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from zeshel_tasks.config.link import LinkConfig
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.linking.cascade import Calibrations
from zeshel_tasks.linking.models import LinkerModels
from zeshel_tasks.recipe import build_settings


def link_config(models: LinkerModels, settings: Mapping[str, Any]) -> LinkConfig:
    """Returns all settings, given those that differ from the usual ones. Some of these are the evaluation's.

    Raises:
        ConfigError: a setting is unknown, of the wrong type or out of range.
    """
    evaluation = models.evaluation()
    return build_settings(
        LinkConfig, {"candidates": evaluation.top_k, "precision": evaluation.precision} | dict(settings)
    )


def threshold_of(config: LinkConfig, calibrations: Calibrations, run: str) -> float | None:
    """Returns the probability at which a mention is linked; None if a missing entity decides that.

    Args:
        config: the settings.
        calibrations: of the models.
        run: id of the run that made the models, for messages.

    Raises:
        ConfigError: the models have no calibration, or never reach the precision on valid.
    """
    if config.threshold is None and "nil_share" not in config.model_fields_set:
        return None
    reference = calibrations.reference(config.mode)
    if reference is None:
        setting = "nil_share" if config.threshold is None else "threshold"
        raise ConfigError(
            f"{setting}: expected models with a calibration, which turns scores into probabilities; got run "
            f"{run} without one: run its stage calibrate, or link without {setting}"
        )
    if config.threshold is None:
        return None
    kind, _, number = config.threshold.rpartition("=")
    if not kind:
        return float(number)
    threshold = reference.threshold(float(number), config.nil_share)
    if math.isinf(threshold):
        raise ConfigError(f"threshold: expected a precision that the models reach on valid, got {number}")
    return threshold
