import subprocess
from pathlib import Path
from typing import Protocol

import pytest

from images import build
from images.build import Builder, BuildError, Image, find_builder, images
from tests.images.fake_tool import FakeTools
from zeshel_tasks import __version__

PINNED = f"registry.example/python@sha256:{'1' * 64}"


class RunBuild(Protocol):
    def __call__(self, *arguments: str, **environment: str) -> None: ...


@pytest.fixture
def run_build(tools: FakeTools, monkeypatch: pytest.MonkeyPatch) -> RunBuild:
    """``run_build(*arguments, **environment)``, with only the fake tools on PATH."""

    def run(*arguments: str, **environment: str) -> None:
        for name in ("IMAGE_PREFIX", "IMAGE_TAG", "IMAGE_BUILDER", "IMAGE_BUILD_FLAGS", "IMAGE_SOURCE"):
            monkeypatch.delenv(name, raising=False)
        for name in ("TASKS_BASE_IMAGE", "SMALL_BASE_IMAGE", "AIRFLOW_BASE_IMAGE", "IMAGE_PLATFORMS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in tools.environ(FAKE_OUTPUT_OF="images", FAKE_OUTPUT="1.48 GB", **environment).items():
            monkeypatch.setenv(name, value)
        build.main(list(arguments))

    return run


def flag(call: list[str], name: str) -> str:
    return call[call.index(name) + 1]


def arguments_of(call: list[str]) -> dict[str, str]:
    found = [call[number + 1] for number, word in enumerate(call) if word == "--build-arg"]
    return dict(word.split("=", 1) for word in found)


@pytest.mark.parametrize("there", [("docker",), ("docker", "podman"), ("docker", "podman", "buildah")])
def test_buildah_is_preferred_to_podman_and_podman_to_docker(tools: FakeTools, there: tuple[str, ...]) -> None:
    tools.add(*there)
    assert find_builder(tools.environ()).kind == there[-1]


def test_environment_selects_the_tool_by_name_or_path(tools: FakeTools) -> None:
    tools.add("buildah", "docker")
    assert find_builder(tools.environ(IMAGE_BUILDER="docker")).kind == "docker"
    path = str(tools.folder / "docker")
    assert find_builder(tools.environ(IMAGE_BUILDER=path)) == Builder(path, ())


def test_missing_tools_are_a_clear_error(tools: FakeTools) -> None:
    with pytest.raises(BuildError, match="expected one of buildah, podman, docker on PATH, found none"):
        find_builder(tools.environ())


def test_selected_tool_that_is_missing_or_unknown_is_a_clear_error(tools: FakeTools) -> None:
    tools.add("buildah", "make")
    with pytest.raises(BuildError, match="IMAGE_BUILDER: expected an executable program, got 'podman'"):
        find_builder(tools.environ(IMAGE_BUILDER="podman"))
    with pytest.raises(BuildError, match=r"IMAGE_BUILDER: expected buildah, podman, docker or the path .*, got 'make'"):
        find_builder(tools.environ(IMAGE_BUILDER="make"))


def test_image_names_consist_of_prefix_and_tag() -> None:
    assert [image.name for image in images({}, test_images=False)] == [
        f"localhost/zeshel-tasks:{__version__}",
        f"localhost/zeshel-small:{__version__}",
        f"localhost/zeshel-airflow:{__version__}",
    ]
    named = images({"IMAGE_PREFIX": "registry.example/team/", "IMAGE_TAG": "7"}, test_images=True)
    assert [image.name for image in named] == [
        "registry.example/team/zeshel-tasks:7",
        "registry.example/team/zeshel-small:7",
        "registry.example/team/zeshel-airflow:7",
        "registry.example/team/zeshel-test-s3:7",
    ]


def test_empty_prefix_is_omitted() -> None:
    assert images({"IMAGE_PREFIX": "", "IMAGE_TAG": "7"}, test_images=False)[0].name == "zeshel-tasks:7"


def test_every_image_is_built_from_its_dockerfile_with_its_label_arguments(
    tools: FakeTools, run_build: RunBuild
) -> None:
    tools.add("podman")
    run_build(IMAGE_TAG="7", IMAGE_SOURCE="https://example.org/zeshel")
    tasks, small, airflow = [call for call in tools.calls() if call[1] == "build"]
    assert flag(tasks, "--file") == "images/tasks/Dockerfile"
    assert flag(tasks, "--tag") == "localhost/zeshel-tasks:7"
    assert flag(small, "--file") == "images/tasks/Dockerfile"
    assert flag(small, "--tag") == "localhost/zeshel-small:7"
    assert arguments_of(small)["PACKAGES"] == "small"
    assert flag(airflow, "--file") == "images/airflow/Dockerfile"
    assert tasks[-1] == "."
    told = arguments_of(tasks)
    assert told.keys() == {"VERSION", "REVISION", "CREATED", "SOURCE", "SOURCE_DATE_EPOCH"}  # the Dockerfile's own base
    assert told["VERSION"] == __version__
    assert told["SOURCE"] == "https://example.org/zeshel"


def test_environment_sets_base_images_and_flags(tools: FakeTools, run_build: RunBuild) -> None:
    tools.add("podman")
    run_build(
        TASKS_BASE_IMAGE="registry.example/python:1",
        AIRFLOW_BASE_IMAGE="registry.example/python:2",
        SMALL_BASE_IMAGE=PINNED,
        IMAGE_BUILD_FLAGS="--pull-never -v '/a b:/a b:ro'",
    )
    tasks, small, airflow = [call for call in tools.calls() if call[1] == "build"]
    assert arguments_of(tasks)["BASE_IMAGE"] == "registry.example/python:1"
    assert arguments_of(small)["BASE_IMAGE"] == PINNED
    assert arguments_of(airflow)["BASE_IMAGE"] == "registry.example/python:2"
    assert tasks[4:7] == ["--pull-never", "-v", "/a b:/a b:ro"]


def test_test_image_is_built_on_the_new_airflow_image(tools: FakeTools, run_build: RunBuild) -> None:
    tools.add("docker")
    run_build("--test-images", IMAGE_TAG="7")
    last = [call for call in tools.calls() if call[1] == "build"][-1]
    assert flag(last, "--tag") == "localhost/zeshel-test-s3:7"
    assert arguments_of(last)["BASE_IMAGE"] == "localhost/zeshel-airflow:7"


@pytest.mark.parametrize("tool", ["buildah", "podman", "docker"])
def test_files_of_all_builds_have_one_time(tools: FakeTools, run_build: RunBuild, tool: str) -> None:
    tools.add(tool)
    run_build()
    (time,) = {arguments_of(call)["SOURCE_DATE_EPOCH"] for call in tools.calls() if call[1] == "build"}
    assert time == str(build.FILE_TIME)
    assert (tool == "docker") or flag(tools.calls()[0], "--timestamp") == time


@pytest.mark.parametrize(("tool", "name"), [("buildah", "--manifest"), ("podman", "--manifest"), ("docker", "--tag")])
def test_image_of_several_platforms_is_a_list(
    tools: FakeTools, run_build: RunBuild, tmp_path: Path, tool: str, name: str
) -> None:
    tools.add(tool)
    run_build("--save", str(tmp_path), IMAGE_TAG="7", IMAGE_PLATFORMS="linux/amd64,linux/arm64")
    built = next(call for call in tools.calls() if call[1] == "build")
    assert flag(built, "--platform") == "linux/amd64,linux/arm64"
    assert flag(built, name) == "localhost/zeshel-tasks:7"
    pushed = [call for call in tools.calls() if call[1:3] == ["manifest", "push"]]
    place = f"oci-archive:{tmp_path}/localhost_zeshel-tasks_7.tar:localhost/zeshel-tasks:7"
    assert [call[-1] for call in pushed[:1]] == ([] if tool == "docker" else [place])


def test_platforms_are_checked(tools: FakeTools) -> None:
    tools.add("podman")
    with pytest.raises(BuildError, match=r"IMAGE_PLATFORMS: expected os/architecture,.*, got 'arm64'"):
        find_builder(tools.environ(IMAGE_PLATFORMS="arm64"))


@pytest.mark.parametrize("tool", ["buildah", "podman", "docker"])
def test_only_buildah_needs_the_layers_option(tools: FakeTools, run_build: RunBuild, tool: str) -> None:
    tools.add(tool)
    run_build()
    assert ("--layers" in tools.calls()[0]) == (tool == "buildah")


def test_build_ends_with_name_size_and_time_of_each_image(
    tools: FakeTools, run_build: RunBuild, capsys: pytest.CaptureFixture[str]
) -> None:
    tools.add("buildah")
    run_build(IMAGE_TAG="7")
    tasks, _, airflow = capsys.readouterr().out.splitlines()[-3:]
    assert tasks.startswith("localhost/zeshel-tasks:7  1.48 GB  built in ")
    assert airflow.startswith("localhost/zeshel-airflow:7  1.48 GB  built in ")


def test_buildah_saves_by_pushing_to_an_archive(tools: FakeTools, run_build: RunBuild, tmp_path: Path) -> None:
    tools.add("buildah")
    old = tmp_path / "saved" / "localhost_zeshel-tasks_7.tar"
    old.parent.mkdir()
    old.write_text("of an earlier build")
    run_build("--save", str(old.parent), IMAGE_TAG="7")
    pushed = next(call for call in tools.calls() if call[1] == "push")
    assert pushed[-2:] == ["localhost/zeshel-tasks:7", f"docker-archive:{old}:localhost/zeshel-tasks:7"]
    assert not old.exists()  # buildah does not overwrite an archive


@pytest.mark.parametrize(("tool", "more"), [("podman", ["--format", "docker-archive"]), ("docker", [])])
def test_podman_and_docker_save_with_their_own_command(
    tools: FakeTools, run_build: RunBuild, tmp_path: Path, tool: str, more: list[str]
) -> None:
    tools.add(tool)
    run_build("--save", str(tmp_path / "saved"), IMAGE_TAG="7")
    saved = [call for call in tools.calls() if call[1] == "save"]
    archive = tmp_path / "saved" / "localhost_zeshel-airflow_7.tar"
    assert saved[-1] == [tool, "save", *more, "--output", str(archive), "localhost/zeshel-airflow:7"]


def test_failed_build_stops_and_shows_its_command(tools: FakeTools, run_build: RunBuild) -> None:
    tools.add("podman")
    with pytest.raises(SystemExit, match=r"error: .*podman build .*images/tasks/Dockerfile.* failed with exit code 9"):
        run_build(FAKE_FAILURE_OF="build")
    assert len(tools.calls()) == 1


def test_revision_marks_uncommitted_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "ROOT", tmp_path)
    assert build.revision() == ("", "")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    commit, created = build.revision()
    assert len(commit) == 40
    assert created[:2] == "20"
    (tmp_path / "new").write_text("")
    assert build.revision() == (f"{commit}-modified", created)


def test_program_runs_in_the_image_and_leaves_no_container(tools: FakeTools) -> None:
    tools.add("buildah")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tools.environ(FAKE_OUTPUT_OF="from", FAKE_OUTPUT="c1", FAKE_FAILURE_OF="run").items():
            patch.setenv(name, value)
        with pytest.raises(
            BuildError, match=r"buildah run --network=none c1 -- python3 -c .* failed with exit code 9: no space left"
        ):
            Builder("buildah", ()).python(Image("small:7", "Dockerfile", None), "print()")
    assert [call[1:3] for call in tools.calls()] == [["from", "--pull-never"], ["run", "--network=none"], ["rm", "c1"]]


@pytest.mark.parametrize("tool", ["podman", "docker"])
def test_program_gets_no_network(tools: FakeTools, tool: str) -> None:
    tools.add(tool)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tools.environ(FAKE_OUTPUT_OF="run", FAKE_OUTPUT="7").items():
            patch.setenv(name, value)
        assert Builder(tool, ()).python(Image("small:7", "Dockerfile", None), "print(7)") == "7"
    (call,) = tools.calls()
    assert {"--rm", "--network=none"} <= set(call)


def test_records_of_several_platforms_are_refused(tools: FakeTools, run_build: RunBuild, tmp_path: Path) -> None:
    tools.add("podman")
    with pytest.raises(SystemExit, match="error: --records: expected no IMAGE_PLATFORMS, got linux/arm64"):
        run_build("--records", str(tmp_path), IMAGE_PLATFORMS="linux/arm64")
    assert tools.calls() == []
