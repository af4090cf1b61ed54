"""Presets, overrides, and errors that say what was expected."""

import contextlib
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from zeshel_tasks.config.stages import STAGE_CONFIGS, Recipe
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.presets import PRESETS
from zeshel_tasks.recipe import build_recipe, read_config_file

SETTINGS = sorted({name for model in STAGE_CONFIGS.values() for name in model.model_fields})


def refused(*overrides: dict[str, Any], preset: str = "recommended") -> str:
    with pytest.raises(ConfigError) as raised:
        build_recipe(preset, *overrides)
    return str(raised.value)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_builds_and_knows_its_name(preset: str) -> None:
    assert build_recipe(preset).preset == preset


def test_unknown_preset_error_lists_presets() -> None:
    assert refused(preset="blnik") == "preset: expected one of blink, recommended, best, smoke, got 'blnik'"


def test_blink_preset_has_numbers_of_given_recipe() -> None:
    recipe = build_recipe("blink")
    expected = {
        "learning_rate": 1e-05,
        "num_train_epochs": 5,
        "max_context_length": 128,
        "max_cand_length": 128,
        "train_batch_size": 128,
        "eval_batch_size": 64,
        "bert_model": "bert-large-uncased",
        "type_optimization": "all_encoder_layers",
        "data_parallel": True,
        "shuffle": False,
        "precision": "fp32",
    }
    assert {name: getattr(recipe.train_biencoder, name) for name in expected} == expected
    expected = {
        "learning_rate": 1e-03,
        "num_train_epochs": 5,
        "train_batch_size": 2,
        "eval_batch_size": 2,
        "type_optimization": "all_encoder_layers",
        "add_linear": True,
        "max_context_length": 128,
        "max_cand_length": 128,
        "bert_model": "bert-large-uncased",
    }
    assert {name: getattr(recipe.train_crossencoder, name) for name in expected} == expected
    assert recipe.eval_biencoder.top_k == 64
    assert recipe.convert.context_tokens == 128
    assert recipe.convert.max_mentions_per_world is None
    assert "1ZcKZ1is0VEkY9kNfPxIG19qEIqHE5LIO" in recipe.download.source


def test_only_recommended_and_best_store_float16_vectors() -> None:
    stored = {preset: build_recipe(preset).eval_biencoder.vector_dtype for preset in PRESETS}
    assert stored == {"blink": "float32", "recommended": "float16", "best": "float16", "smoke": "float32"}


def test_recommended_preset_trains_all_layers_at_the_rate_of_the_models_size() -> None:
    recipe = build_recipe("recommended")
    assert recipe.train_biencoder.learning_rate is recipe.train_crossencoder.learning_rate is None
    assert recipe.train_biencoder.type_optimization == recipe.train_crossencoder.type_optimization == "all"


@pytest.mark.parametrize(
    "override",
    [
        {"train_biencoder.num_train_epochs": 7},
        {"train_biencoder": {"num_train_epochs": 7}},
        {"train_biencoder.num_train_epochs": "7"},
    ],
)
def test_stage_setting_changes_only_its_stage(override: dict[str, Any]) -> None:
    recipe = build_recipe("blink", override)
    assert (recipe.train_biencoder.num_train_epochs, recipe.train_crossencoder.num_train_epochs) == (7, 5)


def test_bare_setting_changes_every_stage_that_has_it() -> None:
    recipe = build_recipe("blink", {"eval_batch_size": 9})
    stages = (recipe.train_biencoder, recipe.eval_biencoder, recipe.train_crossencoder, recipe.eval_crossencoder)
    assert [stage.eval_batch_size for stage in stages] == [9, 9, 9, 9]


@pytest.mark.parametrize(
    "layer",
    [
        {"seed": 1, "train_biencoder.seed": 2},
        {"train_biencoder.seed": 2, "seed": 1},
        {"train_biencoder": {"seed": 2}, "seed": 1},
    ],
)
def test_stage_setting_overrides_bare_one_in_same_layer(layer: dict[str, Any]) -> None:
    recipe = build_recipe("blink", layer)
    assert (recipe.train_biencoder.seed, recipe.train_crossencoder.seed) == (2, 1)


def test_later_layer_overrides_earlier_one_and_preset() -> None:
    assert build_recipe("smoke").eval_biencoder.top_k == 16
    assert build_recipe("smoke", {"top_k": 3}).eval_biencoder.top_k == 3
    assert build_recipe("smoke", {"eval_biencoder.top_k": 3}, {"top_k": 4}).eval_biencoder.top_k == 4


@pytest.mark.parametrize(
    ("text", "value"), [("False", False), ("false", False), ("0", False), ("True", True), ("yes", True)]
)
def test_boolean_may_be_written_as_text(text: str, value: bool) -> None:
    assert build_recipe("recommended", {"shuffle": text}).train_biencoder.shuffle is value


def test_numbers_may_be_written_as_text() -> None:
    recipe = build_recipe("blink", {"train_biencoder.learning_rate": "3e-4", "top_k": "12"})
    assert (recipe.train_biencoder.learning_rate, recipe.eval_biencoder.top_k) == (3e-4, 12)


@pytest.mark.parametrize("nothing", ["none", "None", "null", None])
def test_none_unsets_a_setting(nothing: str | None) -> None:
    assert build_recipe("smoke", {"max_mentions_per_world": nothing}).convert.max_mentions_per_world is None


def test_none_is_refused_where_value_is_required() -> None:
    assert refused({"top_k": "none"}).startswith("eval_biencoder.top_k: Input should be a valid integer; got None")


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("learning_rat", "learning_rate"),
        ("train_biencoder.num_epochs", "num_train_epochs"),
        ("convert.context_token", "context_tokens"),
    ],
)
def test_unknown_setting_error_suggests_similar_name(key: str, suggestion: str) -> None:
    assert refused({key: 1}) == f"{key}: no such setting; did you mean {suggestion!r}?"


def test_suggestion_comes_only_from_named_stage() -> None:
    assert refused({"download.learning_rate": 1}) == "download.learning_rate: no such setting"


def test_unknown_stage_error_lists_stages() -> None:
    message = refused({"train_biencodr.seed": 1})
    assert message.startswith("train_biencodr.seed: expected a stage among download, convert, train_biencoder,")


def test_stage_value_must_be_a_mapping() -> None:
    assert refused({"download": 3}) == "download: expected a mapping of this stage's settings, got 3"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"train_biencoder.learning_rate": 0}, ["train_biencoder.learning_rate", "greater than or equal to", "got 0"]),
        ({"train_biencoder.learning_rate": "nan"}, ["train_biencoder.learning_rate", "finite", "got 'nan'"]),
        ({"max_grad_norm": "inf"}, ["train_biencoder.max_grad_norm", "train_crossencoder.max_grad_norm", "finite"]),
        ({"top_k": 1}, ["eval_biencoder.top_k", "greater than or equal to 2", "got 1"]),
        (
            {"train_biencoder.eval_batch_size": 0},
            ["train_biencoder.eval_batch_size", "greater than or equal to 1", "got 0"],
        ),
        ({"top_k": 1.5}, ["eval_biencoder.top_k", "integer", "got 1.5"]),
        ({"shuffle": "maybe"}, ["train_biencoder.shuffle", "boolean", "got 'maybe'"]),
        ({"type_optimization": "all_layers"}, ["type_optimization", "'all_encoder_layers'", "got 'all_layers'"]),
        ({"sha256": "abc"}, ["download.sha256", "pattern", "got 'abc'"]),
        ({"device": "tpu"}, ["device", "got 'tpu'"]),
        ({"source": ""}, ["download.source", "expected a local path"]),
        ({"source": ["a"]}, ["download.source", "string", "got ['a']"]),
    ],
)
def test_invalid_value_error_names_setting_expected_and_got(override: dict[str, Any], words: list[str]) -> None:
    message = refused(override)
    assert [word for word in words if word not in message] == []


FLOATS = [
    (stage, name)
    for stage, model in STAGE_CONFIGS.items()
    for name, field in model.model_fields.items()
    if field.annotation in (float, float | None)
]


@pytest.mark.parametrize(("stage", "name"), FLOATS)
def test_absurd_number_is_refused(stage: str, name: str) -> None:
    """Such as a number without its exponent's last digit, or one that overflows where it divides."""
    assert build_recipe("smoke", {f"{stage}.{name}": 0.5})
    for absurd in ("nan", "inf", "-inf", "1e300", "-1e300", "1e-300", "-1e-300", "5e-324", "1e-10", 1e-300, 10**400):
        message = refused({f"{stage}.{name}": absurd})
        assert message.startswith(f"{stage}.{name}: "), absurd
        assert "; got " in message


@pytest.mark.parametrize("given", ["0x10", "0o10", "0b11", "010.x", "1 000", "1,000", "1e1", "१६", "16.5", "inf", ""])
def test_text_that_is_no_whole_number_is_refused_in_a_file_and_elsewhere(given: str) -> None:
    for value in (given, read_config_file("r.yaml", f"a: '{given}'")[1]["a"]):
        assert refused({"top_k": value}).startswith("eval_biencoder.top_k: Input should be a valid integer")


@pytest.mark.parametrize("given", ["1_000", "+1000", "1000.0"])
def test_number_is_understood_alike_in_a_file_and_elsewhere(given: str) -> None:
    for value in (given, read_config_file("r.yaml", f"a: {given}")[1]["a"]):
        assert build_recipe("smoke", {"top_k": value}).eval_biencoder.top_k == 1000


def test_all_problems_are_reported_at_once() -> None:
    assert len(refused({"top_k": 0, "report.num_mistakes": -1}).splitlines()) == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            {"train_biencoder.gradient_accumulation_steps": 8, "train_biencoder.train_batch_size": 4},
            "train_biencoder: gradient_accumulation_steps: expected at most train_batch_size (4), got 8",
        ),
        ({"train_crossencoder.add_linear": False}, "add_linear"),
        ({"train_crossencoder.out_dim": 2}, "out_dim"),
        ({"max_seq_length": 128}, "max_seq_length: expected more than max_context_length (128), got 128"),
    ],
)
def test_contradictory_settings_are_refused(override: dict[str, Any], words: str) -> None:
    assert words in refused(override)


_ONE_IN_A_BATCH = "train_batch_size: expected 2 or more, because the negatives of a mention are the golds of the others"
_ONE_IN_A_PART = "gradient_accumulation_steps: expected at most half of train_batch_size"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train_batch_size": 1}, f"{_ONE_IN_A_BATCH}, got 1"),
        ({"train_batch_size": 1, "hard_negatives": 2}, _ONE_IN_A_BATCH),  # none before the middle epoch
        ({"train_batch_size": 1, "gradient_cache": True}, _ONE_IN_A_BATCH),
        ({"train_batch_size": 8, "gradient_accumulation_steps": 8}, f"{_ONE_IN_A_PART} (8), because without gradient"),
        ({"train_batch_size": 3, "gradient_accumulation_steps": 2}, f"{_ONE_IN_A_PART} (3)"),  # the second part has one
        ({"type_optimization": "additional_layers"}, "type_optimization: expected layers that exist"),
        (
            {"add_linear": True, "pooling": "cls", "similarity": "cosine"},
            "out_dim: expected 2 or more with similarity cosine",
        ),
    ],
)
def test_biencoder_settings_that_cannot_learn_are_refused(settings: dict[str, Any], words: str) -> None:
    message = refused({"train_biencoder": settings})
    assert message.startswith("train_biencoder: ")
    assert words in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"train_batch_size": 2},
        {"train_batch_size": 1, "num_train_epochs": 0},
        {"train_batch_size": 1, "hard_negatives": 2, "num_train_epochs": 1},
        {"train_batch_size": 1, "hard_negatives": 2, "num_train_epochs": 3, "hard_negative_rounds": 3},
        {"train_batch_size": 8, "gradient_accumulation_steps": 4},
        {"train_batch_size": 8, "gradient_accumulation_steps": 8, "gradient_cache": True},
        {"type_optimization": "additional_layers", "add_linear": True, "pooling": "cls", "out_dim": 2},
        {"add_linear": True, "pooling": "cls", "similarity": "dot", "out_dim": 1},
    ],
)
def test_biencoder_settings_that_can_learn_are_accepted(settings: dict[str, Any]) -> None:
    build_recipe("recommended", {"train_biencoder": settings})


def test_yaml_file_sets_preset_and_overrides() -> None:
    text = "preset: blink\ntop_k: 8\ntrain_biencoder:\n  learning_rate: 1.0e-4\n  shuffle: yes\n"
    preset, overrides = read_config_file("r.yaml", text)
    recipe = build_recipe(preset or "", overrides)
    assert (recipe.preset, recipe.eval_biencoder.top_k) == ("blink", 8)
    assert (recipe.train_biencoder.learning_rate, recipe.train_biencoder.shuffle) == (1e-4, True)


def test_rate_that_yaml_reads_as_text_becomes_number() -> None:
    _, overrides = read_config_file("r.yaml", "learning_rate: 1e-4")
    assert build_recipe("blink", overrides).train_biencoder.learning_rate == 1e-4


@pytest.mark.parametrize("given", ["0", "16", "1_6", "+16", "0.5", "'010'", "'0x10'", "'1:30'", "2:a", "0o10"])
def test_number_or_text_of_yaml_stays_what_it_is(given: str) -> None:
    assert read_config_file("r.yaml", f"name: {given}")[1] == {"name": yaml.safe_load(given)}


def test_empty_yaml_file_changes_nothing() -> None:
    assert read_config_file("r.yaml", "# nothing\n") == (None, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "r.yaml: expected YAML, got "),
        ("- top_k", "r.yaml: expected a mapping of setting names, got list"),
        ("just text", "r.yaml: expected a mapping of setting names, got str"),
        ("1: 2", "r.yaml: expected a mapping of setting names"),
        ("preset: [blink]", "r.yaml: preset: expected one of blink, recommended, best, smoke, got ['blink']"),
        ("a: !!python/object/apply:os.system ['true']", "r.yaml: expected YAML, got "),
        *(
            (f"top_k: {given}", f"r.yaml: expected YAML, got in line 1, column 8: expected a decimal {words}")
            for given, words in (
                ("010", "number, got 010, which YAML reads in base 8"),
                ("-0_17", "number, got -0_17, which YAML reads in base 8"),
                ("0x10", "number, got 0x10, which YAML reads in base 16"),
                ("-0b1_1", "number, got -0b1_1, which YAML reads in base 2"),
                ("1:30", "number, got 1:30, which YAML reads in base 60"),
                ("1:30:00.5", "number, got 1:30:00.5, which YAML reads in base 60"),
            )
        ),
    ],
)
def test_invalid_config_file_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config_file("r.yaml", text)
    assert str(raised.value).startswith(words)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
names = st.sampled_from(SETTINGS) | st.text(max_size=12)
keys = names | st.tuples(st.sampled_from(list(STAGE_CONFIGS)) | st.text(max_size=5), names).map(".".join)
stages = st.dictionaries(st.sampled_from(list(STAGE_CONFIGS)), st.dictionaries(names, values, max_size=3), max_size=3)


@settings(deadline=None)
@given(st.sampled_from(list(PRESETS)), st.dictionaries(keys, values, max_size=4), stages)
def test_arbitrary_overrides_make_a_recipe_or_are_refused(
    preset: str, flat: dict[str, Any], nested: dict[str, dict[str, Any]]
) -> None:
    with contextlib.suppress(ConfigError):
        recipe = build_recipe(preset, flat, nested)
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize("world", ["a\x00b", "a\nb", "a\x85b", "a\u2028b", "\ud800", ""])
def test_name_of_world_with_control_characters_is_refused(world: str) -> None:
    assert "download.worlds_to_splits" in refused({"worlds_to_splits": [f"{world}=test"]})


@settings(deadline=None)
@given(st.text(max_size=60) | st.sampled_from(["a: &x [*x]", "{", "? [a]\n: b", "\x00", "a: 2026-01-01", "a: 1:2:3"]))
def test_arbitrary_text_makes_a_configuration_or_is_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        _, overrides = read_config_file("r.yaml", text)
        assert isinstance(build_recipe("smoke", overrides), Recipe)
