"""sentence-transformers, whose import takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The package sentence_transformers, with the code of models in a folder of the tests."""
    import sentence_transformers
    import transformers.dynamic_module_utils

    with pytest.MonkeyPatch.context() as patched:
        folder = str(tmp_path_factory.mktemp("modules"))
        patched.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", folder)
        patched.setattr(sys, "path", sys.path[:])
        yield sentence_transformers
