"""Write images/locked/: what the images install, with the SHA-256 of each file: .venv/bin/python images/lock.py

``make lock`` does the same. ``constraints.txt`` decides the versions, and uv reads the hashes from the package index.
The lists hold for Linux on x86_64 and aarch64 and for each version of Python that the package supports. torch is not
among them: it comes with the base image, or in the build for CPU or CUDA that the builder's index offers.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKED = ROOT / "images" / "locked"
EXTRAS = {
    "tasks": ("train", "mlflow", "otlp", "serve"),
    "small": ("small", "mlflow", "otlp"),
    "airflow": ("airflow",),
}
"""The extras of pyproject.toml that each image installs."""
HEADER = "# Written by images/lock.py with the versions of constraints.txt.\n"


def lock(requirements: list[str], text: str | None = None) -> str:
    """Return requirements with all that they need, pinned and hashed, except torch and what its build for CUDA needs.

    Args:
        requirements: arguments of ``uv pip compile`` that name them.
        text: standard input of uv.

    Raises:
        CalledProcessError: they contradict the constraints, or the index does not answer.
    """
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate"]
    command += ["--universal", "--python-version", "3.11", "--generate-hashes", "-c", "constraints.txt"]
    done = subprocess.run(
        [*command, *requirements], cwd=ROOT, input=text, text=True, check=True, stdout=subprocess.PIPE
    )
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    of_torch = re.compile(rf"torch==|(?!({'|'.join(pinned)})==)(triton|nvidia-.*|cuda-.*)==")
    return HEADER + "".join(block for block in blocks(done.stdout) if not of_torch.match(block))


def blocks(locked: str) -> list[str]:
    """Return each requirement of a locked list with its hashes."""
    return re.findall(r"^[A-Za-z0-9].*\n(?:[ \t].*\n)*", locked, re.MULTILINE)


def main() -> None:
    """Write the list of each image, and that of what builds our wheel."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    LOCKED.mkdir(exist_ok=True)
    for name, extras in EXTRAS.items():
        given = ["pyproject.toml", *(f"--extra={extra}" for extra in extras)]
        (LOCKED / f"{name}.txt").write_text(lock(given))
    (LOCKED / "wheel.txt").write_text(lock(["-"], "\n".join(pyproject["build-system"]["requires"])))


if __name__ == "__main__":
    main()
