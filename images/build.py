"""Build the container images: python3 images/build.py [--test-images] [--save DIR]

``make images`` does the same. Environment variables configure the build:

    IMAGE_PREFIX        prefix of each image's name; default: localhost/
    IMAGE_TAG           tag of each image; default: the package's version
    TASKS_BASE_IMAGE    base image of zeshel-tasks; default: the one in its Dockerfile
    AIRFLOW_BASE_IMAGE  base image of zeshel-airflow; default: the one in its Dockerfile
    IMAGE_BUILDER       buildah, podman or docker; default: the first of them that is installed
    IMAGE_BUILD_FLAGS   additional flags of the tool's `build` command, quoted as in a shell
    IMAGE_SOURCE        URL of the source code, for the label org.opencontainers.image.source

This script uses only Python's standard library.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILDERS = ("buildah", "podman", "docker")


class BuildError(Exception):
    """A tool is missing or a command failed. The message is meant for the user."""


@dataclass(frozen=True)
class Image:
    """One image: its Dockerfile, and the base image that replaces the Dockerfile's own unless it is None."""

    name: str
    dockerfile: str
    base: str | None


@dataclass(frozen=True)
class Builder:
    """A tool that builds images. All three tools accept the same flags of ``build``."""

    executable: str
    flags: tuple[str, ...]

    @property
    def kind(self) -> str:
        """``buildah``, ``podman`` or ``docker``."""
        return Path(self.executable).name

    def build(self, image: Image, labels: Mapping[str, str]) -> None:
        """Build ``image`` from the repository, with ``labels`` as build arguments."""
        arguments = dict(labels) if image.base is None else {**labels, "BASE_IMAGE": image.base}
        # By default, buildah caches no layers and would reinstall torch after each change.
        command = [self.executable, "build", *(["--layers"] if self.kind == "buildah" else []), *self.flags]
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        run([*command, "--file", image.dockerfile, "--tag", image.name, "."])

    def size(self, image: Image) -> str:
        """Return the unpacked size as the tool prints it."""
        lines = output([self.executable, "images", "--format", "{{.Size}}", image.name]).splitlines()
        return lines[0] if lines else "unknown size"

    def save(self, image: Image, directory: Path) -> Path:
        """Write ``image`` as a docker-archive, which every tool and every cluster can read."""
        directory.mkdir(parents=True, exist_ok=True)
        archive = directory / f"{re.sub('[^A-Za-z0-9.-]+', '_', image.name)}.tar"
        archive.unlink(missing_ok=True)  # buildah would append to an existing archive
        if self.kind == "buildah":
            run([self.executable, "push", "--quiet", image.name, f"docker-archive:{archive}:{image.name}"])
        else:
            archive_format = ["--format", "docker-archive"] if self.kind == "podman" else []
            run([self.executable, "save", *archive_format, "--output", str(archive), image.name])
        return archive


def find_builder(environ: Mapping[str, str]) -> Builder:
    """Return the tool that IMAGE_BUILDER names, or the first one that is installed.

    Raises:
        BuildError: no tool is installed, or IMAGE_BUILDER names an unknown one.
    """
    flags = tuple(shlex.split(environ.get("IMAGE_BUILD_FLAGS", "")))
    wanted = environ.get("IMAGE_BUILDER", "")
    if wanted and Path(wanted).name not in BUILDERS:
        raise BuildError(f"IMAGE_BUILDER: expected {', '.join(BUILDERS)} or the path of one of them, got {wanted!r}")
    for candidate in (wanted,) if wanted else BUILDERS:
        if executable := shutil.which(candidate, path=environ.get("PATH")):
            return Builder(executable, flags)
    if wanted:
        raise BuildError(f"IMAGE_BUILDER: expected an executable program, got {wanted!r}")
    raise BuildError(f"expected one of {', '.join(BUILDERS)} on PATH, found none")


def images(environ: Mapping[str, str], test_images: bool) -> list[Image]:
    """Return the images to build, in order."""
    prefix = environ.get("IMAGE_PREFIX", "localhost/")
    tag = environ.get("IMAGE_TAG") or package_version()
    tasks, airflow, test_s3 = (f"{prefix}{name}:{tag}" for name in ("zeshel-tasks", "zeshel-airflow", "zeshel-test-s3"))
    wanted = [
        Image(tasks, "images/tasks/Dockerfile", environ.get("TASKS_BASE_IMAGE") or None),
        Image(airflow, "images/airflow/Dockerfile", environ.get("AIRFLOW_BASE_IMAGE") or None),
    ]
    return [*wanted, Image(test_s3, "tests/cluster/s3/Dockerfile", airflow)] if test_images else wanted


def labels(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the build arguments for the labels: version, commit, date of the commit and address of the sources."""
    commit, created = revision()
    source = environ.get("IMAGE_SOURCE", "")
    return {"VERSION": package_version(), "REVISION": commit, "CREATED": created, "SOURCE": source}


def package_version() -> str:
    """Read ``zeshel_tasks.__version__`` as text, without importing the package and its requirements."""
    path = ROOT / "zeshel_tasks" / "__init__.py"
    found = re.search(r'^__version__ = "(.+)"$', path.read_text(), re.MULTILINE)
    if found is None:
        raise BuildError(f'{path}: expected a line __version__ = "...", found none')
    return found[1]


def revision() -> tuple[str, str]:
    """Return the checked-out commit, with ``-modified`` appended if there are uncommitted changes, and its date.

    Both are empty without git or outside a repository.
    """
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return "", ""
    commit, created = output(["git", "log", "-1", "--format=%H %cI"]).split()
    return commit + ("-modified" if output(["git", "status", "--porcelain"]) else ""), created


def run(command: list[str]) -> None:
    """Run ``command`` in the repository and let its output through.

    Raises:
        BuildError: the command failed.
    """
    print("+", shlex.join(command), flush=True)
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status:
        raise BuildError(f"{shlex.join(command)} failed with exit code {status}")


def output(command: list[str]) -> str:
    """Return the output of ``command`` without surrounding whitespace.

    Raises:
        BuildError: the command failed.
    """
    done = subprocess.run(command, cwd=ROOT, check=False, text=True, capture_output=True)
    if done.returncode:
        raise BuildError(f"{shlex.join(command)} failed with exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def main(arguments: list[str] | None = None) -> None:
    """Build all images, save them if requested, and print the name, size and build time of each."""
    parser = argparse.ArgumentParser(description="Build the container images.")
    parser.add_argument(
        "--test-images", action="store_true", help="also build the images that only the cluster tests use"
    )
    parser.add_argument("--save", type=Path, metavar="DIR", help="write each image to an archive in this directory")
    options = parser.parse_args(arguments)
    try:
        builder, summary = find_builder(os.environ), []
        for image in images(os.environ, options.test_images):
            start = time.monotonic()
            builder.build(image, labels(os.environ))
            summary.append(f"{image.name}  {builder.size(image)}  built in {time.monotonic() - start:.0f} s")
            if options.save is not None:
                summary[-1] += f"  saved to {builder.save(image, options.save.resolve())}"
    except BuildError as error:
        sys.exit(f"error: {error}")
    print("\n".join(summary))


if __name__ == "__main__":
    main()
