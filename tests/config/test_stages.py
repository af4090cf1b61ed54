"""Settings do not change, are described, and say if they affect the result of their stage."""

from typing import Any

import pytest
from pydantic import ValidationError

from zeshel_tasks.config.stage_config import setting_flag
from zeshel_tasks.config.stages import STAGE_CONFIGS
from zeshel_tasks.recipe import build_recipe


def test_recipe_settings_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        build_recipe().train_biencoder.seed = 1


@pytest.mark.parametrize("model", STAGE_CONFIGS.values())
def test_settings_without_effect_on_result_stay_out_of_fingerprint(model: Any) -> None:
    kept_out = {name for name, field in model.model_fields.items() if not setting_flag(field, "affects_result")}
    fields = model().fingerprint_fields()
    assert set(fields) == set(model.model_fields) - kept_out
    assert fields == {name: getattr(model(), name) for name in fields}


def test_addresses_pace_and_place_stay_out_of_fingerprint() -> None:
    kept_out = {
        name
        for model in STAGE_CONFIGS.values()
        for name, field in model.model_fields.items()
        if not setting_flag(field, "affects_result")
    }
    assert kept_out == {
        "source", "more_sources", "sha256", "max_download_gb", "max_unpacked_gb", "timeout_seconds",
        "max_download_minutes", "private_addresses", "wiki_shares", "sharded_from",
        "device", "print_interval", "bert_model", "biencoder_weights", "crossencoder_weights",
        "data_parallel", "eval_interval", "checkpoint_minutes", "stall_minutes", "encode_batch_size", "eval_batch_size",
        "num_past_runs", "price_per_gpu_hour", "price_per_hour", "currency",
    }  # fmt: skip
    assert "eval_batch_size" not in build_recipe().train_biencoder.fingerprint_fields()


@pytest.mark.parametrize("model", STAGE_CONFIGS.values())
def test_every_setting_is_described(model: Any) -> None:
    assert model.__doc__
    assert [name for name, field in model.model_fields.items() if not field.description] == []
