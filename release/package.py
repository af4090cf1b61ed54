"""Write a release of the checked-out commit: python -m release.package [--out DIR] [--airflow-chart FILE] [--no-images]

``make release`` does the same. It writes the wheel, the source distribution, the chart's package, the images with their
records (images/records.py), and the SHA-256 of each file. Two releases of a commit are equal byte for byte: their files
have the time of the commit, no owner, and a fixed order.

The images are left out if no tool is installed that builds them. images/build.py lists the variables that it reads.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from images import build as image_build
from images.build import ROOT, BuildError, find_builder, output, package_version
from images.records import sha256_of

SUMS = "SHA256SUMS"


def release(source: Path, time: int, airflow_chart: Path, out: Path) -> None:
    """Write the wheel, the source distribution and the chart's package.

    Args:
        source: folder with the files of the repository and no others.
        time: seconds since 1970 that all files get.
        airflow_chart: package of the chart on which ours depends, at the version of our Chart.yaml.
        out: where the files go.

    Raises:
        BuildError: a build failed, or the chart is another one.
    """
    chart = source / "helm" / "zeshel"
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (dependency,) = about["dependencies"]
    expected = f"{dependency['name']}-{dependency['version']}.tgz"
    if not airflow_chart.is_file() or airflow_chart.name != expected:
        raise BuildError(
            f"--airflow-chart: expected a file {expected}, got {airflow_chart}; `helm dependency build helm/zeshel` "
            "fetches it"
        )
    _build(source, time, out)
    (made,) = out.glob("*.tar.gz")
    with tarfile.open(made) as sdist:
        files = {member.name: _content(sdist, member) for member in sdist if member.isfile()}
    made.write_bytes(packed(files, time))
    files = {f"zeshel/{path.relative_to(chart)}": path.read_bytes() for path in chart.rglob("*") if path.is_file()}
    files[f"zeshel/charts/{expected}"] = airflow_chart.read_bytes()
    (out / f"zeshel-{about['version']}.tgz").write_bytes(packed(files, time))


def _build(source: Path, time: int, out: Path) -> None:
    """Write wheel and source distribution. The wheel has the times that setuptools is told and the files' rights."""
    for path in source.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(time)}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(
        command, env=environ, umask=0o022, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise BuildError(f"python -m build failed with exit code {done.returncode}:\n{done.stdout}")


def packed(files: Mapping[str, bytes], time: int) -> bytes:
    """Return a .tar.gz of files that depends on nothing but their names, their contents and ``time``."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), time, 0o644
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=time)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # it is a file
    return file.read()


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of each file below the folder, as ``sha256sum --check`` reads them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    (folder / SUMS).write_text("".join(f"{sha256_of(path)}  {path.relative_to(folder)}\n" for path in files))


def released_at(changelog: str, version: str) -> str:
    """Return the date of a version.

    Raises:
        BuildError: the changelog does not begin with this version, or it has no date.
    """
    found = re.search(r"^## (\S+) - (\S+)$", changelog, re.MULTILINE)
    if found is None or found[1] != version or not re.fullmatch(r"\d{4}-\d\d-\d\d", found[2]):
        got = "none" if found is None else repr(found[0])
        raise BuildError(f"CHANGELOG.md: expected '## {version} - <year-month-day>' as the first version, got {got}")
    return found[2]


def main() -> None:
    """Write the release to an empty folder."""
    parser = argparse.ArgumentParser(description="Write a release of the checked-out commit.")
    parser.add_argument("--out", type=Path, metavar="DIR", default=ROOT / "dist", help="default: dist")
    parser.add_argument("--airflow-chart", type=Path, metavar="FILE", help="default: the one in helm/zeshel/charts")
    parser.add_argument("--no-images", action="store_true", help="leave the images out")
    options = parser.parse_args()
    out = options.out.resolve()
    try:
        version = package_version()
        released_at((ROOT / "CHANGELOG.md").read_text(), version)
        if changes := output(["git", "status", "--porcelain"]):
            raise BuildError(f"expected a checkout without changes, got\n{changes}")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        charts = list((ROOT / "helm" / "zeshel" / "charts").glob("airflow-*.tgz"))
        with tempfile.TemporaryDirectory() as exported:
            archive = Path(exported) / "source.tar"
            output(["git", "archive", f"--output={archive}", "HEAD"])
            with tarfile.open(archive) as tar:
                tar.extractall(Path(exported) / "source", filter="data")
            time = int(output(["git", "log", "-1", "--format=%ct"]))
            chart = options.airflow_chart or next(iter(charts), ROOT / "helm" / "zeshel" / "charts")
            release(Path(exported) / "source", time, chart, out)
        if not options.no_images:
            _write_images(out / "images")
        write_sums(out)
    except BuildError as error:
        sys.exit(f"error: {error}")
    print((out / SUMS).read_text(), end="")


def _write_images(folder: Path) -> None:
    try:
        find_builder(os.environ)
    except BuildError as error:
        if os.environ.get("IMAGE_BUILDER"):
            raise
        print(f"no images: {error}")
        return
    image_build.main(["--save", str(folder), "--records", str(folder)])


if __name__ == "__main__":
    main()
