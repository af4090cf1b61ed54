"""A knowledge base is encoded as the model was evaluated."""

from pathlib import Path

from tests.store.wrapped import AgedStore
from zeshel_tasks.knowledge_base.encoding import encoding_of
from zeshel_tasks.linking.models import LinkerModels
from zeshel_tasks.stages.run_models import models_of_run
from zeshel_tasks.store import Run, artifact_folder


def test_champion_of_an_earlier_version_has_the_settings_of_the_preset(store: AgedStore, tmp_path: Path) -> None:
    found = encoding_of(LinkerModels.of_champion(store, tmp_path / "cache"))
    assert found.fingerprint == "a" * 64
    assert found.settings == {"candidate_form": "title_and_text", "precision": "auto", "vector_dtype": "float16"}


def test_run_has_the_settings_of_its_evaluation(finished_run: Run, tmp_path: Path) -> None:
    found = encoding_of(models_of_run(finished_run, tmp_path))
    evaluated = finished_run.manifest("eval-biencoder-test")
    trained = finished_run.manifest("train-biencoder")
    assert evaluated is not None
    assert trained is not None
    assert found.biencoder == artifact_folder("train-biencoder", trained.fingerprint)
    assert found.settings == {name: evaluated.config[name] for name in found.settings}
