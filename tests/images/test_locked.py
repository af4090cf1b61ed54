"""The lists of what the images install, and what of them a base image needs."""

import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from images.airflow.pins import pins
from images.lock import EXTRAS, LOCKED, blocks
from tests.images.dockerfile import ROOT

CONSTRAINTS = """# Versions that are known to work together.
apache-airflow-providers-standard==1.21.0
botocore==1.44.5
PyYAML==6.0.3
types-boto3-s3==1.43.106
"""
LISTED = """# Written by a script.
apache-airflow-core==3.3.2 \\
    --hash=sha256:11 \\
    --hash=sha256:12
botocore==1.44.5 ; sys_platform == 'linux' \\
    --hash=sha256:21
"""


def locked(name: str) -> dict[str, str]:
    """The versions of a list, by canonical name."""
    found = [re.split(r"[\s;]", block)[0].split("==") for block in blocks((LOCKED / f"{name}.txt").read_text())]
    return {canonicalize_name(package): version for package, version in found}


def needed(requirements: list[str], left_out: set[str]) -> set[str]:
    """The packages that requirements need on this machine, which has them installed."""
    found, rest = set[str](), [Requirement(text) for text in requirements]
    while rest:
        requirement = rest.pop()
        name, extras = canonicalize_name(requirement.name), requirement.extras or {""}
        if name in left_out or (name in found and extras == {""}):
            continue
        found.add(name)
        for text in metadata.requires(name) or []:
            needs = Requirement(text)
            if needs.marker is None or any(needs.marker.evaluate({"extra": extra}) for extra in extras):
                rest.append(needs)
    return found


def pinned() -> dict[str, str]:
    lines = [line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    return {canonicalize_name(name): version for name, version in lines}


@pytest.mark.parametrize("name", EXTRAS)
def test_list_of_an_image_has_all_that_its_packages_need(name: str) -> None:
    """``--no-deps`` installs nothing else. torch, which the base may have, brings what only it needs on CUDA."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for extra in EXTRAS[name] for text in project["optional-dependencies"][extra]]
    wanted = needed([*project["dependencies"], *extras], {"torch"})
    assert len(wanted) > 30
    assert wanted <= locked(name).keys()


def test_list_for_our_wheel_has_what_builds_it() -> None:
    assert locked("wheel").keys() == {"setuptools"}


@pytest.mark.parametrize("name", [*EXTRAS, "wheel"])
def test_lists_have_the_versions_of_the_constraints(name: str) -> None:
    """`make lock` writes them after a change of constraints.txt or of the extras."""
    known = pinned()
    assert {name: version for name, version in locked(name).items() if known.get(name, version) != version} == {}


@pytest.mark.parametrize("name", [*EXTRAS, "wheel"])
def test_each_package_has_hashes(name: str) -> None:
    for block in blocks((LOCKED / f"{name}.txt").read_text()):
        assert re.fullmatch(
            r"\S+==\S+( ; [^\n]+)? \\\n( +--hash=sha256:[0-9a-f]{64} \\\n)*( +--hash=sha256:[0-9a-f]{64})\n", block
        )


def test_small_image_has_no_model_library() -> None:
    models = {"torch", "transformers", "accelerate", "tokenizers", "safetensors", "huggingface-hub"}
    assert models - {"torch"} <= locked("tasks").keys()
    assert models.isdisjoint(locked("small"))


def test_every_pin_applies_on_an_empty_base() -> None:
    assert "".join(pins(CONSTRAINTS, installed=())).splitlines() == CONSTRAINTS.splitlines()[1:]


def test_pin_keeps_its_hashes() -> None:
    assert "".join(pins(LISTED, installed=())) == LISTED.partition("\n")[2]
    assert "".join(pins(LISTED, installed={"botocore"})) == LISTED[LISTED.index("apache") : LISTED.index("botocore")]


def test_libraries_of_the_base_image_are_not_pinned() -> None:
    kept = pins(CONSTRAINTS, installed={"botocore", "pyyaml", "types-boto3-s3"})
    assert kept == ["apache-airflow-providers-standard==1.21.0\n"]


def test_airflow_and_its_providers_are_always_pinned() -> None:
    kept = pins(CONSTRAINTS, installed={"apache-airflow-providers-standard", "botocore"})
    assert "apache-airflow-providers-standard==1.21.0\n" in kept
    assert "botocore==1.44.5\n" not in kept
