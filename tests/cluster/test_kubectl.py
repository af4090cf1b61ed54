"""Where kubectl reads its configuration and where it writes. Needs no cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kubectl import Namespace, helm, tool_environment

# Like the real ones, it keeps a cache under HOME, or in the current folder without HOME.
FAKE = '#!/bin/sh\nmkdir -p "${HOME:-.}/.kube" && echo "$KUBECONFIG"\n'


@pytest.fixture(autouse=True)
def fake_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("kubectl", "helm"):
        (tmp_path / name).write_text(FAKE)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("HELM", raising=False)
    monkeypatch.chdir(tmp_path / "here")
    tool_environment.cache_clear()
    yield
    tool_environment.cache_clear()


@pytest.mark.parametrize("home", [None, "user"])
def test_nothing_is_written_to_the_current_folder_or_the_users_home(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user").mkdir()
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", str(tmp_path / home))
    Namespace("some").run("get", "pods")
    helm("list")
    assert Path(tool_environment()["HOME"], ".kube").is_dir()
    assert list((tmp_path / "here").iterdir()) == []
    assert list((tmp_path / "user").iterdir()) == []


def test_without_kubeconfig_the_users_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert Namespace("some").run("get", "pods").strip() == str(tmp_path / ".kube" / "config")


def test_kubeconfig_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/some/kubeconfig")
    assert Namespace("some").run("get", "pods").strip() == "/some/kubeconfig"
