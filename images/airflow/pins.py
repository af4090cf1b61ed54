"""Print the pins of a list that apply on top of the installed packages: python3 pins.py airflow.txt

Airflow's image contains hundreds of libraries at mutually compatible versions. Changing some of them would break
others: aiobotocore 3.9 needs botocore 1.43, but our boto3 needs botocore 1.44. These libraries keep their versions.
Airflow and its providers are installed at our pins, because the operators are tested with those.
"""

import re
import sys
from collections.abc import Container
from importlib import metadata
from pathlib import Path


def pins(listed: str, installed: Container[str]) -> list[str]:
    """Return the pins of Airflow and of packages missing from ``installed`` (canonical names), with their hashes."""
    found = re.findall(r"^[A-Za-z0-9].*\n(?:[ \t].*\n)*", listed, re.MULTILINE)
    return [pin for pin in found if (name := canonical(pin.split("==")[0])) not in installed or is_airflow(name)]


def is_airflow(name: str) -> bool:
    """Return True for Airflow and its providers."""
    return name.startswith("apache-airflow")


def canonical(name: str) -> str:
    """Normalize a package's name according to PEP 503."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


if __name__ == "__main__":
    there = {canonical(distribution.name) for distribution in metadata.distributions()}
    print("".join(pins(Path(sys.argv[1]).read_text(), there)), end="")
