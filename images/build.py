"""Build the container images: python3 -m images.build [--test-images] [--save DIR] [--records DIR]

``make images`` does the same. Environment variables configure the build:

    IMAGE_PREFIX        prefix of each image's name; default: localhost/
    IMAGE_TAG           tag of each image; default: the package's version
    TASKS_BASE_IMAGE    base image of zeshel-tasks; default: the one in its Dockerfile
    SMALL_BASE_IMAGE    base image of zeshel-small; default: python:3.11-slim
    AIRFLOW_BASE_IMAGE  base image of zeshel-airflow; default: the one in its Dockerfile
    IMAGE_PLATFORMS     platforms to build for, as linux/amd64,linux/arm64; default: that of this machine
    IMAGE_BUILDER       buildah, podman or docker; default: the first of them that is installed
    IMAGE_BUILD_FLAGS   additional flags of the tool's `build` command, quoted as in a shell
    IMAGE_SOURCE        URL of the source code, for the label org.opencontainers.image.source

A base image may be pinned by its digest, as name@sha256:... Two builds of a commit on the same base have the same files
with the same times, so buildah and podman give them the same digest. docker does if IMAGE_BUILD_FLAGS contains
--output=type=docker,rewrite-timestamp=true.

This script uses only Python's standard library, except for --records.
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
PLATFORMS = r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?(,[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?)*"
SMALL_BASE = "docker.io/library/python:3.11-slim"
# 1980-01-01, the first day that a zip file knows. All commits have the same, so that a layer from the cache is that of
# a build without a cache. The label org.opencontainers.image.created has the date of the commit.
FILE_TIME = 315_532_800


class BuildError(Exception):
    """A tool is missing or a command failed. The message is meant for the user."""


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        name: with its tag.
        dockerfile: path below the repository's root.
        base: the base image that replaces the Dockerfile's own unless it is None.
        packages: the list in images/locked/ that it installs, if its Dockerfile has several.
    """

    name: str
    dockerfile: str
    base: str | None
    packages: str | None = None

    @property
    def arguments(self) -> dict[str, str]:
        """Its build arguments."""
        given = {"BASE_IMAGE": self.base, "PACKAGES": self.packages}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def base_name(self) -> str:
        """The base image that is used.

        Raises:
            BuildError: the Dockerfile has none.
        """
        if self.base is not None:
            return self.base
        found = re.search(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / self.dockerfile).read_text(), re.MULTILINE)
        if found is None:
            raise BuildError(f"{self.dockerfile}: expected a line ARG BASE_IMAGE=..., found none")
        return found[1]


@dataclass(frozen=True)
class Builder:
    """A tool that builds images. All three tools accept the same flags of ``build``."""

    executable: str
    flags: tuple[str, ...]
    platforms: str = ""

    @property
    def kind(self) -> str:
        """``buildah``, ``podman`` or ``docker``."""
        return Path(self.executable).name

    def build(self, image: Image, labels: Mapping[str, str]) -> None:
        """Build ``image`` from the repository, with ``labels`` as build arguments."""
        arguments = {**labels, **image.arguments, "SOURCE_DATE_EPOCH": str(FILE_TIME)}
        # By default, buildah caches no layers and would reinstall torch after each change.
        command = [self.executable, "build", *(["--layers"] if self.kind == "buildah" else [])]
        command += [] if self.kind == "docker" else ["--timestamp", str(FILE_TIME)]
        command += ["--platform", self.platforms] if self.platforms else []
        command += self.flags
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        if self.makes_lists:
            # A list of an earlier build would keep its images.
            subprocess.run([self.executable, "manifest", "rm", image.name], cwd=ROOT, check=False, capture_output=True)
        run([*command, "--file", image.dockerfile, "--manifest" if self.makes_lists else "--tag", image.name, "."])

    @property
    def makes_lists(self) -> bool:
        """True if it makes a list of images, one for each platform. docker lists them itself."""
        return bool(self.platforms) and self.kind != "docker"

    def size(self, image: Image) -> str:
        """Return the unpacked size as the tool prints it."""
        lines = output([self.executable, "images", "--format", "{{.Size}}", image.name]).splitlines()
        return lines[0] if lines else "unknown size"

    def digest(self, name: str) -> str:
        """Return the SHA-256 of the image's configuration, which contains those of its files: the id of the image."""
        if self.kind == "buildah":
            found = output([self.executable, "inspect", "--type", "image", "--format", "{{.FromImageID}}", name])
        else:
            found = output([self.executable, "image", "inspect", "--format", "{{.Id}}", name])
        return found.removeprefix("sha256:")

    def repository_digest(self, name: str) -> str:
        """Return the SHA-256 of the image's manifest, by which a registry knows it; empty if the tool knows none."""
        if self.kind == "buildah":
            return output([self.executable, "inspect", "--type", "image", "--format", "{{.FromImageDigest}}", name])[7:]
        found = output([self.executable, "image", "inspect", "--format", '{{join .RepoDigests " "}}', name])
        return found.partition("@sha256:")[2][:64]

    def python(self, image: Image, program: str) -> str:
        """Run a program of Python in the image, without a network, and return its output."""
        words = ["python3", "-c", program]
        if self.kind != "buildah":
            return output(
                [self.executable, "run", "--rm", "--network=none", "--entrypoint", words[0], image.name, *words[1:]]
            )
        container = output([self.executable, "from", "--pull-never", image.name])
        try:
            return output([self.executable, "run", "--network=none", container, "--", *words])
        finally:
            output([self.executable, "rm", container])

    def save(self, image: Image, directory: Path) -> Path:
        """Write ``image`` as a docker-archive, which every tool and every cluster can read.

        Several platforms need an oci-archive instead.
        """
        directory.mkdir(parents=True, exist_ok=True)
        archive = directory / f"{re.sub('[^A-Za-z0-9.-]+', '_', image.name)}.tar"
        archive.unlink(missing_ok=True)  # buildah would append to an existing archive
        if self.makes_lists:
            run([self.executable, "manifest", "push", "--all", image.name, f"oci-archive:{archive}:{image.name}"])
        elif self.kind == "buildah":
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
    flags, platforms = tuple(shlex.split(environ.get("IMAGE_BUILD_FLAGS", ""))), environ.get("IMAGE_PLATFORMS", "")
    if platforms and not re.fullmatch(PLATFORMS, platforms):
        raise BuildError(f"IMAGE_PLATFORMS: expected os/architecture,os/architecture,..., got {platforms!r}")
    wanted = environ.get("IMAGE_BUILDER", "")
    if wanted and Path(wanted).name not in BUILDERS:
        raise BuildError(f"IMAGE_BUILDER: expected {', '.join(BUILDERS)} or the path of one of them, got {wanted!r}")
    for candidate in (wanted,) if wanted else BUILDERS:
        if executable := shutil.which(candidate, path=environ.get("PATH")):
            return Builder(executable, flags, platforms)
    if wanted:
        raise BuildError(f"IMAGE_BUILDER: expected an executable program, got {wanted!r}")
    raise BuildError(f"expected one of {', '.join(BUILDERS)} on PATH, found none")


def images(environ: Mapping[str, str], test_images: bool) -> list[Image]:
    """Return the images to build, in order."""
    prefix = environ.get("IMAGE_PREFIX", "localhost/")
    tag = environ.get("IMAGE_TAG") or package_version()
    tasks, small, airflow, test_s3 = (
        f"{prefix}zeshel-{name}:{tag}" for name in ("tasks", "small", "airflow", "test-s3")
    )
    small_base = environ.get("SMALL_BASE_IMAGE") or SMALL_BASE
    wanted = [
        Image(tasks, "images/tasks/Dockerfile", environ.get("TASKS_BASE_IMAGE") or None),
        Image(small, "images/tasks/Dockerfile", small_base, packages="small"),
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
    parser.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="write to this directory what each image consists of (CycloneDX) and how it was built (SLSA's "
        "provenance); needs cyclonedx-python-lib",
    )
    options = parser.parse_args(arguments)
    try:
        builder, summary = find_builder(os.environ), list[str]()
        if options.records is not None and builder.platforms:
            raise BuildError(f"--records: expected no IMAGE_PLATFORMS, got {builder.platforms}")
        for image in images(os.environ, options.test_images):
            start = time.monotonic()
            builder.build(image, labels(os.environ))
            summary.append(f"{image.name}  {builder.size(image)}  built in {time.monotonic() - start:.0f} s")
            archive = None if options.save is None else builder.save(image, options.save.resolve())
            summary[-1] += "" if archive is None else f"  saved to {archive}"
            if options.records is not None:
                from images.records import write_records

                write_records(builder, image, labels(os.environ), archive, options.records.resolve())
    except BuildError as error:
        sys.exit(f"error: {error}")
    print("\n".join(summary))


if __name__ == "__main__":
    main()
