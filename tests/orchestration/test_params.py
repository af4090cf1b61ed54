from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import ParamValidationError

from zeshel_tasks.config.stage_config import setting_flag
from zeshel_tasks.config.stages import STAGE_CONFIGS
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.orchestration.approval import ApprovedPromotion
from zeshel_tasks.orchestration.link_params import link_params, link_schemas
from zeshel_tasks.orchestration.params import dag_params, param_schemas, recipe_overrides, run_config_of
from zeshel_tasks.presets import PRESETS

SETTINGS = [
    (stage, name, field) for stage, model in STAGE_CONFIGS.items() for name, field in model.model_fields.items()
]
BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "min_length": "minLength",
}


def key_of(stage: str, name: str, field: Any) -> str:
    return name if setting_flag(field, "shared") else f"{stage}.{name}"


@pytest.mark.parametrize(("stage", "name", "field"), SETTINGS, ids=[f"{s}.{n}" for s, n, _ in SETTINGS])
def test_form_has_every_setting_with_its_bounds(stage: str, name: str, field: Any) -> None:
    schema = param_schemas()[key_of(stage, name, field)]
    assert schema["title"] == name
    assert field.description in schema["description_md"]
    assert "null" in schema["type"]
    for constraint in field.metadata:
        for theirs, ours in BOUNDS.items():
            if hasattr(constraint, theirs):
                assert schema[ours] == getattr(constraint, theirs)
        if getattr(constraint, "pattern", None):
            assert schema["pattern"] == constraint.pattern


def test_form_adds_only_preset_and_run_settings() -> None:
    others = {"preset", "approve", "refresh", "gpus", "memory", "image"}
    assert param_schemas().keys() - {key_of(*setting) for setting in SETTINGS} == others


@pytest.mark.parametrize("schemas", [param_schemas, link_schemas])
def test_no_field_is_rendered_as_a_text_area_for_json(schemas: Callable[[], dict[str, dict[str, Any]]]) -> None:
    """Airflow's form does so if a value has several types, and neither choices nor examples."""
    for name, schema in schemas().items():
        several = len(set(schema["type"]) - {"null"}) > 1 if isinstance(schema["type"], list) else False
        assert not several or {"enum", "examples"} & schema.keys(), name
    assert any("examples" in schema for schema in schemas().values())


def test_form_has_a_section_for_each_stage_and_shared_settings() -> None:
    sections = {schema.get("section") for schema in param_schemas().values()}
    assert sections == {None, "Shared by the stages", *(s.replace("_", " ").capitalize() for s in STAGE_CONFIGS)}
    assert param_schemas()["bert_model"]["section"] == "Shared by the stages"


def test_descriptions_show_the_value_in_each_preset() -> None:
    text = param_schemas()["train_crossencoder.learning_rate"]["description_md"]
    assert "blink **0.001**, recommended **none**, best **none**, smoke **0.0002**" in text
    assert "Default: **false**" in param_schemas()["train_biencoder.add_linear"]["description_md"]


def test_descriptions_show_the_accepted_range() -> None:
    assert param_schemas()["train_biencoder.learning_rate"]["description_md"].endswith(" Takes ≥ 1e-09, ≤ 1.")
    assert param_schemas()["gpus"]["description_md"].endswith(" Takes ≥ 0, ≤ 64.")
    assert "Takes" not in param_schemas()["image"]["description_md"]


def test_defaults_are_valid_and_select_the_recommended_preset() -> None:
    values = {name: param.resolve() for name, param in dag_params().items()}
    assert values.pop("preset") == "recommended"
    assert set(values.values()) == {None}


GOOD = [
    ("preset", "blink"),
    ("gpus", 0),
    ("image", "registry:5000/zeshel/tasks@sha256:00"),
    ("train_biencoder.learning_rate", 2e-5),
    ("train_biencoder.learning_rate", 1),
    ("train_biencoder.learning_rate", "2e-5"),
    ("train_biencoder.learning_rate", "0.00002"),
    ("train_biencoder.max_grad_norm", "1.5"),
    ("train_biencoder.shuffle", False),
    ("train_biencoder.pull_from_layer", -3),
    ("convert.max_mentions_per_world", None),
    ("convert.on_bad_mention", "skip"),
    ("device", "cuda:1"),
    ("download.sha256", "a" * 64),
    ("download.source", "a"),
    ("download.source", "/data/a b"),
    ("bert_model", "日本"),
]
BAD = [
    ("preset", "fast"),
    ("preset", None),
    ("gpus", -1),
    ("gpus", 1.5),
    ("image", "a b"),
    ("train_biencoder.learning_rate", 0),
    ("train_biencoder.learning_rate", 1.01),
    ("train_biencoder.learning_rate", "-2e-5"),
    ("train_biencoder.learning_rate", "2e5"),
    ("train_biencoder.learning_rate", "25"),
    ("train_biencoder.learning_rate", "fast"),
    ("train_biencoder.max_grad_norm", "-1"),
    ("train_biencoder.train_batch_size", 0),
    ("train_biencoder.train_batch_size", 1.5),
    ("train_biencoder.train_batch_size", True),
    ("train_biencoder.shuffle", "true"),
    ("train_biencoder.shuffle", 1),
    ("train_biencoder.type_optimization", "some"),
    ("convert.max_bad_share", 1.5),
    ("max_context_length", 1024),
    ("device", "gpu"),
    ("download.sha256", "xyz"),
    ("download.source", ""),
    ("download.source", " s3://bucket/x"),
    ("download.source", "s3://bucket/x "),
    ("download.source", "a\nb"),
    ("download.source", "a\x85b"),
    ("bert_model", "bert\u2028"),
    ("download.worlds_to_splits", ["a\x85=test"]),
    ("bert_model", 3),
]


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_valid_value_is_accepted(name: str, value: Any) -> None:
    assert dag_params()[name].resolve(value) == value


@pytest.mark.parametrize(("name", "value"), BAD)
def test_invalid_value_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ParamValidationError):
        dag_params()[name].resolve(value)


def test_deployment_changes_the_defaults() -> None:
    params = dag_params({"preset": "smoke", "bert_model": "s3://models/bert"})
    assert params["preset"].resolve() == "smoke"
    assert params["bert_model"].resolve() == "s3://models/bert"


@pytest.mark.parametrize("defaults", [{"learning_rat": 1}, {"preset": "x"}, {"gpus": -1}, {"download.sha256": "x"}])
def test_invalid_deployment_default_is_named(defaults: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(defaults))):
        dag_params(defaults)


def test_overrides_reach_only_stages_with_the_setting() -> None:
    overrides = recipe_overrides({"preset": "smoke", "bert_model": "m", "train_biencoder.seed": None, "gpus": 2})
    assert overrides["train_biencoder"] == overrides["train_crossencoder"] == {"bert_model": "m"}
    assert overrides["download"] == overrides["eval_biencoder"] == overrides["report"] == {}


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"train_biencoder.learning_rat": 1e-5}, "did you mean 'learning_rate'"),
        ({"learning_rate": 1e-5}, "use stage.setting"),
        ({"train_biencoder.gradient_accumulation_steps": 1000}, "at most train_batch_size"),
        ({"preset": "recommended", "train_crossencoder.max_seq_length": 64}, "more than max_context_length"),
        ({"gpus": -1}, "gpus"),
    ],
)
def test_recipe_overrides_refuses_what_the_form_cannot_check(params: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        recipe_overrides(params)


def test_preset_param_describes_every_preset() -> None:
    text = param_schemas()["preset"]["description_md"]
    assert all(f"**{name}**" in text for name in PRESETS)


def test_run_config_ignores_recipe_settings() -> None:
    config = run_config_of({"gpus": 2, "image": None, "bert_model": "x"})
    assert (config.gpus, config.image) == (2, None)


def test_form_does_not_have_what_the_deployment_fixes() -> None:
    assert set(dag_params()) - set(dag_params(fixed=["image", "approve"])) == {"image", "approve"}
    with pytest.raises(ConfigError, match="ZESHEL_DEFAULTS: expected names of the trigger form, got image"):
        dag_params({"image": "i:1"}, fixed=["image"])


def test_link_form_does_not_have_what_the_deployment_fixes() -> None:
    assert set(link_params()) - set(link_params(fixed=["image", "memory"])) == {"image", "memory"}


def test_approvers_take_the_question_from_the_form(
    monkeypatch: pytest.MonkeyPatch, load_dag_file: Callable[..., Any]
) -> None:
    monkeypatch.setenv("ZESHEL_APPROVERS", '[{"id": "7"}]')
    dag = load_dag_file().report.dag
    assert "approve" not in dag.params
    assert isinstance(dag.get_task("promote").command, ApprovedPromotion)
    question = dag.get_task("approve")
    assert question.assigned_users == [{"id": "7", "name": "7"}]
    assert list(question.serialized_params) == ["reason"]
