"""The files of a pretrained model, from each kind of location."""

from pathlib import Path

import pytest

from zeshel_tasks.download.model_files import bert_directory
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import model_location


def test_directory_without_a_model_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"expected a directory with config\.json"):
        bert_directory(model_location(str(tmp_path / "empty")), tmp_path)
    with pytest.raises(ConfigError, match=r"expected a directory with config\.json"):
        bert_directory(model_location("not a/valid/hub name"), tmp_path)
