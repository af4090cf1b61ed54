"""Settings of the stages after the models: final score, probabilities, comparison, report and promotion."""

from __future__ import annotations

from typing import Literal

from zeshel_tasks.config.stage_config import StageConfig, setting

FinalScore = Literal["fitted", "crossencoder"]


class FuseConfig(StageConfig):
    """Combine cross-encoder and retrieval scores into the final score, and link the mentions by it."""

    final_score: FinalScore = setting(
        "fitted",
        "Score that decides: fitted combines the cross-encoder's and the retrieval score with weights fitted on valid, "
        "or takes the better one alone; crossencoder ignores the retrieval score.",
    )


class CalibrateConfig(StageConfig):
    """Fit the probability that a link is right, and that a mention has no entity."""

    linked_precision: float = setting(
        0.95, "Precision of the linked mentions for which the stage fits and measures a threshold.", ge=0.01, lt=1
    )
    cascade_loss: float = setting(
        0.003,
        "Unnormalized accuracy on valid that may be lost where clear mentions are not re-ranked (mode cascade of "
        "zeshel link).",
        ge=0,
        le=1,
    )


class CompareConfig(StageConfig):
    """Compare the model with the champion on the same test mentions."""

    runs_a_model = True

    confidence: float = setting(0.95, "Confidence level of the bootstrap intervals.", ge=0.01, lt=1)
    bootstrap_samples: int = setting(10_000, "Resamples of the mentions in the paired bootstrap.", ge=100, le=1_000_000)
    bootstrap_seed: int = setting(52313, "Seed of the bootstrap.", ge=0, le=2**32 - 1)


class ReportConfig(StageConfig):
    """Write the report of the run."""

    num_mistakes: int = setting(50, "Most confident mistakes to show.", ge=0, le=1000)
    num_past_runs: int = setting(
        20, "Previous runs in the store to show beside this one.", affects_result=False, ge=0, le=1000
    )
    price_per_gpu_hour: float | None = setting(
        None,
        "Price of a GPU for an hour. The report shows what each stage and the run cost; None leaves GPUs out.",
        affects_result=False,
        ge=0,
        le=1_000_000,
    )
    price_per_hour: float | None = setting(
        None,
        "Price of a stage's pod or machine for an hour, without its GPUs. None leaves it out.",
        affects_result=False,
        ge=0,
        le=1_000_000,
    )
    currency: str = setting(
        "USD", "Currency of the prices, as its code of three letters.", affects_result=False, pattern="^[A-Z]{3}$"
    )


class PromoteConfig(StageConfig):
    """Promote the model to champion if it is better."""

    margin: float = setting(
        0.0,
        "Minimum gain over the champion in unnormalized accuracy on test (0 to 1). The confidence interval of the "
        "difference must be above 0 as well.",
        ge=0,
        le=1,
    )
    max_world_drop: float = setting(
        0.02, "Maximum drop below the champion in the unnormalized accuracy of any test world.", ge=0, le=1
    )
