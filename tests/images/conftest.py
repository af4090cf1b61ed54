from pathlib import Path

import pytest

from tests.images.fake_tool import FakeTools


@pytest.fixture
def tools(tmp_path: Path) -> FakeTools:
    """Programs that write down how they were called, in a folder of their own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return FakeTools(folder)
