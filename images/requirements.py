"""Prints what this package requires, one requirement a line: python3 requirements.py pyproject.toml [EXTRA ...]

A layer with only these is built again when they change, not whenever our code does. pip has no such option itself.
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """The requirements of the package in the text of a ``pyproject.toml``, with those of ``extras``.

    Raises:
        KeyError: the project has no such extra.
    """
    project = tomllib.loads(pyproject)["project"]
    lines: list[str] = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return lines


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]).read_text(), sys.argv[2:])))
