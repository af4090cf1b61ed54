"""The images whose pods the other files watch."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from images.build import find_builder, images, labels
from images.records import write_records
from tests.images.test_locked import locked


@pytest.mark.cluster
@pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "hunt", reason="takes minutes: part of the nightly tests")
@pytest.mark.timeout(3600)
def test_two_builds_of_a_commit_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so are their archives and records. The second build takes nothing from a cache."""
    sums, given = [], os.environ.get("IMAGE_BUILD_FLAGS", "")
    for flags in ("", "--no-cache"):
        folder = tmp_path / f"build{flags}"
        monkeypatch.setenv("IMAGE_BUILD_FLAGS", f"{given} {flags}")
        builder = find_builder(os.environ)
        (small,) = (image for image in images(os.environ, test_images=False) if image.packages == "small")
        builder.build(small, labels(os.environ))
        write_records(builder, small, labels(os.environ), builder.save(small, folder), folder)
        sums.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()})
    assert sums[0] == sums[1]
    assert len(sums[0]) == 3
    listed = {part["purl"] for part in json.loads(next(folder.glob("*.cdx.json")).read_text())["components"]}
    assert {f"pkg:pypi/{name}@{version}" for name, version in locked("small").items()} <= listed
