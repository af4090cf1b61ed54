"""Prints the pins of a constraints file that hold on top of what is installed: python3 pins.py constraints.txt

Airflow's own image brings hundreds of libraries at versions that fit one another; other versions of some would break
the rest (boto3's botocore 1.44 under aiobotocore 3.9, which needs 1.43). They stay as they are. Airflow and its
providers are taken at our pins: the operators are tested with those.
"""

import re
import sys
from collections.abc import Container
from importlib import metadata
from pathlib import Path


def pins(constraints: str, installed: Container[str]) -> list[str]:
    """The lines ``name==version`` of Airflow, and of packages that are not in ``installed`` (canonical names)."""
    lines = [line for line in constraints.splitlines() if "==" in line]
    return [line for line in lines if (name := canonical(line.split("==")[0])) not in installed or is_airflow(name)]


def is_airflow(name: str) -> bool:
    """Whether the package is Airflow or one of its providers."""
    return name.startswith("apache-airflow")


def canonical(name: str) -> str:
    """A package's name as PEP 503 has it: two spellings of one name become equal."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


if __name__ == "__main__":
    there = {canonical(distribution.name) for distribution in metadata.distributions()}
    print("\n".join(pins(Path(sys.argv[1]).read_text(), there)))
