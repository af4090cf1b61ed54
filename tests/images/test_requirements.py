import re

import pytest

from images.airflow.pins import pins
from images.requirements import requirements
from tests.images.dockerfile import ROOT

PYPROJECT = """
[project]
dependencies = ["boto3>=1.40", "pyyaml>=6"]
[project.optional-dependencies]
train = ["torch>=2.6"]
airflow = ["apache-airflow~=3.3"]
"""
CONSTRAINTS = """# Versions that are known to work together.
apache-airflow-providers-standard==1.21.0
botocore==1.44.5
PyYAML==6.0.3
types-boto3-s3==1.43.106
"""


def test_requirements_include_the_package_and_the_extras() -> None:
    assert requirements(PYPROJECT, []) == ["boto3>=1.40", "pyyaml>=6"]
    assert requirements(PYPROJECT, ["airflow"]) == ["boto3>=1.40", "pyyaml>=6", "apache-airflow~=3.3"]


def test_unknown_extra_is_an_error() -> None:
    with pytest.raises(KeyError, match="tests"):
        requirements(PYPROJECT, ["tests"])


@pytest.mark.parametrize("extra", ["train", "airflow", "mlflow", "serve"])
def test_each_direct_requirement_of_an_image_is_pinned(extra: str) -> None:
    pinned = pins((ROOT / "constraints.txt").read_text(), installed=())
    names = {line.split("==")[0].lower().replace("_", "-") for line in pinned}
    listed = requirements((ROOT / "pyproject.toml").read_text(), [extra])
    assert [line for line in listed if re.split(r"[<>=~!\[; ]", line)[0].lower() not in names] == []


def test_every_pin_applies_on_an_empty_base() -> None:
    assert pins(CONSTRAINTS, installed=()) == CONSTRAINTS.splitlines()[1:]


def test_libraries_of_the_base_image_are_not_pinned() -> None:
    kept = pins(CONSTRAINTS, installed={"botocore", "pyyaml", "types-boto3-s3"})
    assert kept == ["apache-airflow-providers-standard==1.21.0"]


def test_airflow_and_its_providers_are_always_pinned() -> None:
    kept = pins(CONSTRAINTS, installed={"apache-airflow-providers-standard", "botocore"})
    assert "apache-airflow-providers-standard==1.21.0" in kept
    assert "botocore==1.44.5" not in kept
