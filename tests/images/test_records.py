"""What is written about a built image."""

import hashlib
import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from images.build import Image, images
from images.records import bill_of_materials, provenance
from tests.images.dockerfile import ROOT

COMMIT, DIGEST = "c" * 40, "d" * 64
LABELS = {"VERSION": "1.2.3", "REVISION": COMMIT, "CREATED": "2026-01-02T03:04:05+00:00", "SOURCE": ""}
CONTENTS = {
    "system": "debian",
    "python": {
        "numpy": {"version": "2.4.6", "license": "BSD-3-Clause AND MIT"},
        "six": {"version": "1", "license": None},
    },
    "debian": [{"Package": "libc6", "Version": "2.36-9+deb12u9", "Architecture": "amd64"}],
}


def document() -> dict[str, Any]:
    text = bill_of_materials("registry.example/zeshel-small:7", DIGEST, LABELS, CONTENTS)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    return found


def test_bill_of_materials_is_valid_and_lists_every_package() -> None:
    parts = {part["purl"]: part for part in document()["components"]}
    assert parts.keys() == {
        "pkg:pypi/numpy@2.4.6",
        "pkg:pypi/six@1",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64",
    }
    assert parts["pkg:pypi/numpy@2.4.6"]["licenses"] == [{"expression": "BSD-3-Clause AND MIT"}]


def test_bill_of_materials_is_about_the_image_and_equal_for_the_same_image() -> None:
    about = document()["metadata"]
    assert about["component"]["name"] == "registry.example/zeshel-small:7"
    assert about["component"]["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    assert about["timestamp"] == LABELS["CREATED"]
    assert document() == document()


@pytest.mark.parametrize("base_digest", ["", "b" * 64])
def test_provenance_names_what_was_built_from_what(base_digest: str) -> None:
    image = Image("zeshel-small:7", "images/tasks/Dockerfile", "python:3.11", "small")
    made = provenance(image, {image.name: DIGEST}, LABELS, base_digest, "buildah version 1.28.2")
    assert made["subject"] == [{"name": "zeshel-small:7", "digest": {"sha256": DIGEST}}]
    definition = made["predicate"]["buildDefinition"]
    inputs = {found["uri"]: found.get("digest") for found in definition["resolvedDependencies"]}
    assert inputs["git"] == {"gitCommit": COMMIT}
    assert inputs["oci:python:3.11"] == ({"sha256": base_digest} if base_digest else None)
    path = "images/locked/small.txt"
    assert inputs[path] == {"sha256": hashlib.sha256((ROOT / path).read_bytes()).hexdigest()}
    assert definition["externalParameters"]["arguments"]["PACKAGES"] == "small"


def test_base_image_that_is_not_given_is_that_of_the_dockerfile() -> None:
    tasks, _, airflow = images({}, test_images=False)
    assert tasks.base_name.startswith("docker.io/pytorch/pytorch:")
    assert airflow.base_name.startswith("docker.io/apache/airflow:")
