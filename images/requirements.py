"""Print the package's requirements, one per line: python3 requirements.py pyproject.toml [EXTRA ...]

An image layer with only the requirements is rebuilt when they change, not when our code changes. pip has no option for
it.
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """Return the requirements in the text of a ``pyproject.toml``, including those of ``extras``.

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
