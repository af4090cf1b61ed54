"""Properties of the images that their Dockerfiles show. The cluster tests check that the images build and run."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

from images.build import FILE_TIME
from tests.images.dockerfile import ROOT, Dockerfile, Stage, read

TASKS, AIRFLOW, TEST_S3 = "images/tasks/Dockerfile", "images/airflow/Dockerfile", "tests/cluster/s3/Dockerfile"
LABELS = ("title", "description", "version", "revision", "created", "source", "licenses", "base.name")
NEEDED_BY_INSTALL = {
    "constraints.txt",
    "images/locked/${PACKAGES}.txt",
    "images/locked/airflow.txt",
    "images/airflow/pins.py",
}


@pytest.fixture(params=[TASKS, AIRFLOW, TEST_S3])
def dockerfile(request: pytest.FixtureRequest) -> Dockerfile:
    return read(request.param)


@pytest.fixture(params=[TASKS, AIRFLOW])
def shipped(request: pytest.FixtureRequest) -> Dockerfile:
    return read(request.param)


def pinned(package: str) -> str:
    found = re.search(rf"^{re.escape(package)}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None, f"constraints.txt has no pin of {package}"
    return found[1]


def sent_to_the_builder() -> set[str]:
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    return exclude_paths(str(ROOT), [line for line in patterns if line and not line.startswith("#")])


def test_every_stage_starts_from_the_base_or_an_earlier_stage(dockerfile: Dockerfile) -> None:
    names = [stage.name for stage in dockerfile.stages]
    for number, stage in enumerate(dockerfile.stages):
        assert stage.base == "${BASE_IMAGE}" or stage.base in names[:number]


def test_test_server_is_built_on_the_given_image() -> None:
    assert read(TEST_S3).arguments == {"BASE_IMAGE": ""}


def test_base_image_of_tasks_has_the_pinned_torch() -> None:
    base = read(TASKS).arguments["BASE_IMAGE"]
    assert re.fullmatch(rf"docker\.io/pytorch/pytorch:{re.escape(pinned('torch'))}-cuda[\d.]+-cudnn\d+-runtime", base)


def test_base_image_of_airflow_has_the_pinned_version() -> None:
    expected = f"docker.io/apache/airflow:{pinned('apache-airflow')}-python3.11"
    assert read(AIRFLOW).arguments["BASE_IMAGE"] == expected


def test_containers_run_as_uid_50000(dockerfile: Dockerfile) -> None:
    assert dockerfile.final.values("USER")[-1] == "50000:0"


def test_no_instruction_fetches_a_url(dockerfile: Dockerfile) -> None:
    assert [found.value for found in dockerfile.instructions if found.name == "ADD"] == []
    commands = [command for found in dockerfile.instructions if found.name == "RUN" for command in found.commands]
    assert [command for command in commands if command and Path(command[0]).name in ("curl", "wget", "git")] == []


def test_copied_files_exist_and_are_in_the_build_context(dockerfile: Dockerfile) -> None:
    sent = sent_to_the_builder()
    copied = [found for found in dockerfile.instructions if found.name == "COPY" and "from" not in found.flags]
    lists = [path.stem for path in (ROOT / "images/locked").iterdir()]
    given = [source.rstrip("/") for found in copied for source in found.sources]
    sources = {source.replace("${PACKAGES}", name) for source in given for name in lists}
    assert sources
    assert [source for source in sources if source not in sent] == []


def test_build_context_contains_nothing_else() -> None:
    sent = {path for path in sent_to_the_builder() if (ROOT / path).is_file()}
    tops = {path.split("/")[0] for path in sent}
    assert tops <= {".dockerignore", "LICENSE", "README.md", "constraints.txt", "pyproject.toml"} | {
        "dags",
        "images",
        "tests",
        "zeshel_tasks",
    }
    assert [path for path in sent if path.startswith("tests/") and not path.startswith("tests/cluster/s3/")] == []
    assert [path for path in sent if "__pycache__" in path or path.endswith((".pyc", ".tar"))] == []


def test_images_do_without_what_they_do_not_need_of_the_demo(tmp_path: Path) -> None:
    demo = {path for path in sent_to_the_builder() if path.startswith("zeshel_tasks/demo/")}
    assert "zeshel_tasks/demo/sample_inputs.py" in demo
    assert [path for path in demo if "airflow" in path or path.endswith(("__main__.py", "watch.py"))] == []
    commands = [command for found in read(AIRFLOW).instructions if found.name == "RUN" for command in found.commands]
    assert ["rm", "-r", "zeshel_tasks/demo"] in commands
    shutil.copytree(ROOT / "zeshel_tasks", tmp_path / "zeshel_tasks", ignore=shutil.ignore_patterns("demo"))
    # An editable install would find the demo in this checkout.
    only_there = "import sys; sys.meta_path = [finder for finder in sys.meta_path if 'ditable' not in repr(finder)]\n"
    zeshel = [sys.executable, "-c", only_there + "from zeshel_tasks.cli import main; main(['--help'])"]
    ended = subprocess.run(zeshel, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
    assert "pipeline" in ended.stdout
    assert "make-sample" not in ended.stdout


def test_files_are_copied_only_from_earlier_stages(dockerfile: Dockerfile) -> None:
    names: list[str] = []
    for stage in dockerfile.stages:
        copied = [found.flags["from"] for found in stage.own if found.name == "COPY" and "from" in found.flags]
        assert [name for name in copied if name not in names] == []
        names.append(stage.name)


def installs_of(dockerfile: Dockerfile) -> list[list[str]]:
    commands = [command for found in dockerfile.instructions if found.name == "RUN" for command in found.commands]
    return [command for command in commands if "pip" in command and {"install", "wheel"} & set(command)]


def test_every_pip_install_leaves_no_cache(dockerfile: Dockerfile) -> None:
    assert installs_of(dockerfile)
    assert [command for command in installs_of(dockerfile) if "--no-cache-dir" not in command] == []


def test_packages_are_verified_except_torch(shipped: Dockerfile) -> None:
    """torch has no hash that holds for all its builds. The rest is our own wheel."""
    installs = installs_of(shipped)
    verified = [command for command in installs if {"--no-deps", "--require-hashes"} <= set(command)]
    own = [command for command in installs if {"--no-index", "--no-build-isolation"} & set(command)]
    torch = [command for command in installs if command[-3:] == ["-c", "constraints.txt", "torch"]]
    assert len(verified) == 2  # of what our package needs, and of what builds its wheel
    assert len(torch) == (shipped.path == TASKS)
    assert len(verified) + len(own) + len(torch) == len(installs)


def test_installed_files_have_bytecode_that_does_not_depend_on_their_time(shipped: Dockerfile) -> None:
    """All files in a layer get the same time."""
    for command in installs_of(shipped):
        if "install" in command and "/opt/wheel/bin/python" not in command:
            assert "--no-compile" in command
    commands = [command for found in shipped.instructions if found.name == "RUN" for command in found.commands]
    compiled = [command for command in commands if "compileall" in command]
    assert len(compiled) == 2
    for command in compiled:
        assert command[command.index("--invalidation-mode") + 1] == "unchecked-hash"


def test_files_get_the_time_that_the_build_sets(shipped: Dockerfile) -> None:
    times = {
        found.value for found in shipped.instructions if found.name == "ARG" and "SOURCE_DATE_EPOCH" in found.value
    }
    assert times == {f"SOURCE_DATE_EPOCH={FILE_TIME}"}


def test_change_of_our_code_does_not_reinstall_dependencies(shipped: Dockerfile) -> None:
    stage = next(stage for stage in shipped.stages if stage.name == "dependencies" or stage is shipped.final)
    earlier = shipped.before(stage, "--require-hashes")
    copied = {source for found in earlier if found.name == "COPY" for source in found.sources}
    assert copied <= NEEDED_BY_INSTALL


def test_final_stage_of_tasks_image_copies_only_installed_packages() -> None:
    final = read(TASKS).final
    assert final.parent is None
    assert final.values("RUN") == []
    assert [found.flags.get("from") for found in final.own if found.name == "COPY"] == [
        "dependencies",
        *["package"] * 2,
    ]


def test_tasks_image_writes_only_to_scratch_and_starts_zeshel() -> None:
    final = read(TASKS).final
    expected = {
        "ZESHEL_SCRATCH": "/scratch",
        "HOME": "/scratch",
        "TMPDIR": "/scratch",
        "HF_HOME": "/scratch/huggingface",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    assert {name: final.pairs("ENV").get(name) for name in expected} == expected
    assert [json.loads(value) for value in final.values("ENTRYPOINT")] == [["zeshel"]]


def test_airflow_image_has_the_dags_and_the_kubernetes_runner() -> None:
    final = read(AIRFLOW).final
    environment = final.pairs("ENV")
    assert environment["AIRFLOW_HOME"] == "/opt/airflow"
    assert environment["ZESHEL_RUNNER"] == "kubernetes"
    copies = [found.value for found in final.all if found.name == "COPY"]
    assert "dags/zeshel.py dags/zeshel_link.py /opt/airflow/dags/" in copies
    assert {path.name for path in (ROOT / "dags").glob("*.py")} == {"zeshel.py", "zeshel_link.py"}
    assert "images/airflow/airflow.cfg /opt/airflow/airflow.cfg" in copies


def test_airflow_image_keeps_its_base_entry_point() -> None:
    """The official chart relies on that entry point, which waits for the database."""
    final = read(AIRFLOW).final
    assert final.values("ENTRYPOINT") == []
    assert final.values("CMD") == []


def test_labels_describe_the_build(shipped: Dockerfile) -> None:
    labels = shipped.final.pairs("LABEL")
    assert [name for name in LABELS if not labels.get(f"org.opencontainers.image.{name}")] == []
    declared = {value.partition("=")[0] for value in shipped.final.values("ARG")}
    used = {name for value in labels.values() for name in re.findall(r"\$\{(\w+)\}", value)}
    assert used
    assert used <= declared


def _own_runs(stage: Stage) -> list[str]:
    return [found.value for found in stage.own if found.name == "RUN"]
