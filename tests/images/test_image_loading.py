import shutil
import sys
from pathlib import Path

import pytest

from tests.cluster.image_loading import Context, ImageLoadError, current_context, load, load_command
from tests.images.fake_tool import FakeTools, kubeconfig_view

ARCHIVE = Path("/images/zeshel-tasks.tar")
MINIKUBE = "minikube.sigs.k8s.io"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "an image.tar"
    path.write_bytes(b"")
    return path


def test_kind_cluster_is_detected_by_its_context_name() -> None:
    command = load_command(ARCHIVE, Context("kind-two-nodes"), {})
    assert command == ["kind", "load", "image-archive", str(ARCHIVE), "--name", "two-nodes"]


def test_minikube_cluster_is_detected_by_its_kubeconfig_extension() -> None:
    command = load_command(ARCHIVE, Context("gpu-profile", (MINIKUBE,)), {})
    assert command == ["minikube", "image", "load", str(ARCHIVE), "--profile", "gpu-profile"]


def test_command_from_the_environment_takes_precedence() -> None:
    environ = {"IMAGE_LOAD": "ctr --address '/run/a b.sock' -n k8s.io images import {}"}
    command = load_command(ARCHIVE, Context("kind-kind"), environ)
    assert command == ["ctr", "--address", "/run/a b.sock", "-n", "k8s.io", "images", "import", str(ARCHIVE)]


def test_archive_may_be_part_of_a_word_of_the_command() -> None:
    command = load_command(ARCHIVE, None, {"IMAGE_LOAD": "skopeo copy docker-archive:{} oci:/images"})
    assert command[2] == f"docker-archive:{ARCHIVE}"


def test_command_without_archive_placeholder_is_rejected() -> None:
    with pytest.raises(ImageLoadError, match=r"IMAGE_LOAD: expected a command with \{\} .*, got 'ctr images import'"):
        load_command(ARCHIVE, None, {"IMAGE_LOAD": "ctr images import"})


@pytest.mark.parametrize("context", [Context("production"), Context("minikube"), None])
def test_other_clusters_need_a_command(context: Context | None) -> None:
    with pytest.raises(ImageLoadError, match="expected the context of a kind or minikube cluster, or a command in IM"):
        load_command(ARCHIVE, context, {})


def test_current_context_comes_from_kubectl(tools: FakeTools) -> None:
    tools.add("kubectl")
    view = tools.environ(FAKE_OUTPUT_OF="config", FAKE_OUTPUT=kubeconfig_view("gpu-profile", MINIKUBE))
    assert current_context(view) == Context("gpu-profile", (MINIKUBE,))
    plain = tools.environ(FAKE_OUTPUT_OF="config", FAKE_OUTPUT=kubeconfig_view("fixture"))
    assert current_context(plain) == Context("fixture")


def test_missing_kubeconfig_means_no_context(tools: FakeTools) -> None:
    tools.add("kubectl")
    empty = '{"kind": "Config", "contexts": null, "clusters": null, "current-context": ""}'
    assert current_context(tools.environ(FAKE_OUTPUT_OF="config", FAKE_OUTPUT=empty)) is None


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
def test_output_of_real_kubectl_is_parsed(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kubeconfig_view("kind-real"))
    kubectl = shutil.which("kubectl")
    assert kubectl is not None
    environ = {"PATH": str(Path(kubectl).parent), "KUBECONFIG": str(kubeconfig), "HOME": str(tmp_path)}
    assert current_context(environ) == Context("kind-real")


def test_archives_are_loaded_in_order(tools: FakeTools, archive: Path) -> None:
    tools.add("kubectl", "kind")
    environ = tools.environ(FAKE_OUTPUT_OF="config", FAKE_OUTPUT=kubeconfig_view("kind-kind"))
    load([archive, archive], environ)
    assert tools.calls()[1:] == [["kind", "load", "image-archive", str(archive), "--name", "kind"]] * 2


def test_missing_archive_is_named(tools: FakeTools, tmp_path: Path) -> None:
    with pytest.raises(ImageLoadError, match=r"expected an image archive at .*/missing.tar, found none"):
        load([tmp_path / "missing.tar"], tools.environ(IMAGE_LOAD="ctr {}"))


def test_missing_program_is_named(tools: FakeTools, archive: Path) -> None:
    with pytest.raises(ImageLoadError, match="expected ctr on PATH, found none"):
        load([archive], tools.environ(IMAGE_LOAD="ctr {}"))


def test_failed_load_is_an_error(tools: FakeTools, archive: Path) -> None:
    tools.add("ctr")
    with pytest.raises(ImageLoadError, match=r"ctr import .* ended with exit code 9"):
        load([archive], tools.environ(IMAGE_LOAD="ctr import {}", FAKE_FAILURE_OF="import"))


def test_command_line_exits_with_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.cluster import image_loading

    monkeypatch.setenv("IMAGE_LOAD", "ctr {}")
    monkeypatch.setattr(sys, "argv", ["image_loading", str(tmp_path / "missing.tar")])
    with pytest.raises(SystemExit, match="error: expected an image archive"):
        image_loading.main()
