from pathlib import Path

import pytest

from tests.images.fake_tool import FakeTools


@pytest.fixture
def tools(tmp_path: Path) -> FakeTools:
    """Fake programs in a temporary folder that record how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return FakeTools(folder)
