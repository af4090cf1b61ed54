"""A release is equal byte for byte, whenever and wherever it is packed, and what it contains can be installed."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from images import build
from images.build import BuildError
from release import package
from release.package import SUMS, packed, release, released_at, write_sums
from tests.helm.chart import CHART, STAND_IN, STANDALONE, render
from tests.images.dockerfile import ROOT
from zeshel_tasks import __version__

TIME = 1_700_000_000


@pytest.fixture(scope="module")
def airflow_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a stand-in for the official chart, at its version."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["dependencies"][0]["version"]
    files = {f"airflow/{name}": text.replace("{version}", version).encode() for name, text in STAND_IN.items()}
    path = tmp_path_factory.mktemp("charts") / f"airflow-{version}.tgz"
    path.write_bytes(packed(files, TIME))
    return path


def checkout(folder: Path, mode: int, time: int) -> Path:
    """Copies the files that Git tracks, with another time and other rights, and gives the version a date."""
    if not (ROOT / ".git").exists():
        pytest.skip("no Git history")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        path = folder / name
        if (ROOT / name).is_file():  # it may be deleted without a commit
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, path)
            path.chmod(mode)
            os.utime(path, (time, time))
    changelog = (folder / "CHANGELOG.md").read_text()
    (folder / "CHANGELOG.md").write_text(changelog.replace(" - unreleased", " - 2026-01-02"))
    return folder


def make_release(repository: Path, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in (build, package):
            patch.setattr(module, "ROOT", repository)
        patch.setattr(sys, "argv", ["package", "--no-images", *arguments])
        package.main()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit, which has all files."""
    folder = checkout(tmp_path_factory.mktemp("repository"), 0o600, TIME - 1000)
    dates = {"GIT_AUTHOR_DATE": f"@{TIME} +0000", "GIT_COMMITTER_DATE": f"@{TIME} +0000"}
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], cwd=folder, check=True, env={**os.environ, **dates})
    return folder


@pytest.fixture(scope="module")
def releases(repository: Path, airflow_chart: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two releases of the same files: of a commit by the command, and of another folder."""
    folder = tmp_path_factory.mktemp("releases")
    first, second = folder / "a", folder / "b"
    make_release(repository, "--out", str(first), "--airflow-chart", str(airflow_chart))
    second.mkdir()
    release(checkout(folder / "another place", 0o644, TIME), TIME, airflow_chart, second)
    write_sums(second)
    return first, second


def test_changes_without_a_commit_are_not_released(
    repository: Path, tmp_path: Path, releases: tuple[Path, Path]
) -> None:
    (repository / "new").touch()
    with pytest.raises(SystemExit, match=r"error: expected a checkout without changes, got\n\?\? new"):
        make_release(repository, "--out", str(tmp_path))
    assert (releases[0] / SUMS).is_file()


def test_releases_of_a_commit_are_equal(releases: tuple[Path, Path]) -> None:
    first, second = ((folder / SUMS).read_text() for folder in releases)
    assert first == second
    assert len(first.splitlines()) == 3
    checked = subprocess.run(
        ["sha256sum", "--check", SUMS], cwd=releases[0], check=True, capture_output=True, text=True
    )
    assert checked.stdout.count(": OK") == 3


def test_wheel_has_the_files_of_the_package(releases: tuple[Path, Path]) -> None:
    (wheel,) = releases[0].glob("*.whl")
    assert wheel.name == f"zeshel_tasks-{__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"zeshel_tasks/cli.py", "zeshel_tasks/py.typed", "zeshel_tasks/report/chart.html"} <= names
    assert [
        name for name in names if name.split("/")[0] not in ("zeshel_tasks", f"zeshel_tasks-{__version__}.dist-info")
    ] == []


def test_source_distribution_has_no_owner_and_one_time(releases: tuple[Path, Path]) -> None:
    (path,) = releases[0].glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        members = sdist.getmembers()
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {(0, 0, "", TIME)}
    assert f"zeshel_tasks-{__version__}/zeshel_tasks/cli.py" in {member.name for member in members}


def test_packaged_chart_can_be_rendered(releases: tuple[Path, Path]) -> None:
    rendered = render(releases[0] / f"zeshel-{__version__}.tgz", STANDALONE)
    assert "Deployment zeshel-airflow" in rendered.names()


def test_chart_on_which_ours_depends_must_be_the_pinned_one(airflow_chart: Path, tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "helm" / "zeshel")
    other = shutil.copy(airflow_chart, tmp_path / "airflow-1.0.0.tgz")
    with pytest.raises(
        BuildError, match=rf"--airflow-chart: expected a file {airflow_chart.name}, got .*/airflow-1.0.0"
    ):
        release(tmp_path, TIME, Path(other), tmp_path / "out")


@pytest.mark.parametrize("text", ["", "## 1.2.3 - unreleased\n", "## 1.2.4 - 2026-01-02\n\n## 1.2.3 - 2026-01-01\n"])
def test_version_without_a_date_is_not_released(text: str) -> None:
    with pytest.raises(BuildError, match=r"expected '## 1\.2\.3 - <year-month-day>' as the first version"):
        released_at(f"# Changelog\n\n{text}", "1.2.3")
    assert released_at("# Changelog\n\n## 1.2.3 - 2026-01-02\n", "1.2.3") == "2026-01-02"


# -- one version


def test_changelog_begins_with_the_version() -> None:
    versions = re.findall(r"^## (\S+) - ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == __version__
    assert versions == sorted(versions, key=lambda text: [int(part) for part in text.split(".")], reverse=True)


def test_chart_has_the_version_of_the_package() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (about["version"], about["appVersion"]) == (__version__, __version__)


def test_docs_and_examples_name_the_images_of_the_version() -> None:
    texts = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "helm" / "examples").iterdir()]
    named = {
        path: re.findall(r"zeshel-(?:tasks|small|airflow|\$image)(?::|, tag: )(\d+\.\d+\.\d+)", path.read_text())
        for path in texts
    }
    assert sum(map(len, named.values())) > 5
    assert {path.name: found for path, found in named.items() if set(found) - {__version__}} == {}
