from zeshel_tasks.report.configuration import compare_with_preset


def test_setting_that_differs_from_preset_is_marked() -> None:
    compared = compare_with_preset({"train-biencoder": {"learning_rate": 3e-5, "seed": 52313}}, "recommended")
    assert compared["train-biencoder"]["learning_rate"] == {"value": 3e-5, "preset_default": None, "differs": True}
    assert not compared["train-biencoder"]["seed"]["differs"]


def test_defaults_come_from_the_preset_rather_than_the_settings_model() -> None:
    configuration = {"train-crossencoder": {"learning_rate": 1e-3}}
    assert not compare_with_preset(configuration, "blink")["train-crossencoder"]["learning_rate"]["differs"]
    assert compare_with_preset(configuration, "recommended")["train-crossencoder"]["learning_rate"]["differs"]


def test_evaluation_of_split_is_compared_with_its_stage() -> None:
    compared = compare_with_preset({"eval-biencoder-test": {"top_k": 32}}, "smoke")
    assert compared["eval-biencoder-test"]["top_k"] == {"value": 32, "preset_default": 16, "differs": True}


def test_settings_keep_definition_order_with_unknown_last() -> None:
    settings = {"zebra": 1, "subset_seed": 1, "context_tokens": 128}
    compared = compare_with_preset({"convert": settings}, "blink")
    assert list(compared["convert"]) == ["context_tokens", "subset_seed", "zebra"]
    assert compared["convert"]["zebra"] == {"value": 1, "preset_default": None, "differs": False}
