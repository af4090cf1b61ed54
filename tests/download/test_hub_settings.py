"""The variables of huggingface_hub mean what they mean to huggingface_hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from zeshel_tasks.download.hub_settings import cache_folder, token_header

VARIABLES = [
    "HF_HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH", "HF_HUB_DISABLE_IMPLICIT_TOKEN",
]  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", "/disk")
    return tmp_path


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "~/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/xdg", "HF_HOME": "~/hf/"}, "~/hf/hub"),
        ({"HF_HOME": "$PLACE/hf"}, "/disk/hf/hub"),
        ({"HF_HOME": "/hf", "HUGGINGFACE_HUB_CACHE": "${PLACE}/old"}, "/disk/old"),
        ({"HF_HUB_CACHE": "~/new", "HUGGINGFACE_HUB_CACHE": "/old"}, "~/new"),
        ({"HF_HUB_CACHE": "", "HF_HOME": "/hf"}, "/hf/hub"),
    ],
)
def test_cache_folder(home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected.replace("~", str(home)))


@pytest.mark.parametrize(
    ("variables", "token"),
    [
        ({}, "of the file"),
        ({"HF_TOKEN": " hf_new\n", "HUGGING_FACE_HUB_TOKEN": "hf_old"}, "hf_new"),
        ({"HF_TOKEN": "\n", "HUGGING_FACE_HUB_TOKEN": "hf_old"}, "hf_old"),
        ({"HF_TOKEN_PATH": "~/elsewhere"}, "elsewhere"),
        ({"HF_TOKEN": "hf_new", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}, None),
    ],
)
def test_token(home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], token: str | None) -> None:
    (home / ".cache" / "huggingface").mkdir(parents=True)
    (home / ".cache" / "huggingface" / "token").write_text("hf_file\r\n")
    (home / "elsewhere").write_text("hf_elsewhere\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    named = {"of the file": "hf_file", "elsewhere": "hf_elsewhere"}
    assert token_header() == ({} if token is None else {"Authorization": f"Bearer {named.get(token, token)}"})
