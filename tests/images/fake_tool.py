"""Fake programs that only record how they were called."""

import json
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = """#!/bin/sh
{{
    printf '%s' "${{0##*/}}"
    for word in "$@"; do printf '\\037%s' "$word"; done
    printf '\\n'
}} >> '{calls}'
[ -z "$FAKE_OUTPUT" ] || [ "$1" != "$FAKE_OUTPUT_OF" ] || printf '%s\\n' "$FAKE_OUTPUT"
[ "$1" != "$FAKE_FAILURE_OF" ] || {{ echo 'no space left' >&2; exit 9; }}
"""


@dataclass(frozen=True)
class FakeTools:
    """A folder of programs for PATH, and the record of their calls."""

    folder: Path

    def add(self, *names: str) -> None:
        """Create programs with these names."""
        for name in names:
            program = self.folder / name
            program.write_text(_PROGRAM.format(calls=self.folder / "calls"))
            program.chmod(0o755)

    def calls(self) -> list[list[str]]:
        """Return the program and arguments of each call so far."""
        record = self.folder / "calls"
        return [line.split("\x1f") for line in record.read_text().splitlines()] if record.exists() else []

    def environ(self, **more: str) -> dict[str, str]:
        """An environment with only these programs, controlled by FAKE_OUTPUT, FAKE_OUTPUT_OF and FAKE_FAILURE_OF."""
        quiet = {"FAKE_OUTPUT": "", "FAKE_OUTPUT_OF": "", "FAKE_FAILURE_OF": ""}
        return {"PATH": str(self.folder), **quiet, **more}


def kubeconfig_view(context: str, provider: str = "") -> str:
    """Return the output of ``kubectl config view --output=json`` for a cluster with this context."""
    extensions = [{"name": "cluster_info", "extension": {"provider": provider}}] if provider else None
    return json.dumps(
        {
            "current-context": context,
            "contexts": [{"name": context, "context": {"cluster": "c1", "user": "u1"}}],
            "clusters": [{"name": "c1", "cluster": {"server": "https://127.0.0.1:6443", "extensions": extensions}}],
        }
    )
