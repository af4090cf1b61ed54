from pathlib import Path

import pytest

from tests.helm.chart import installable_copy


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with a stand-in for the official one; see :mod:`tests.helm.chart`."""
    return installable_copy(tmp_path_factory.mktemp("helm") / "zeshel")
