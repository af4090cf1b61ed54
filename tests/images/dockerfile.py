"""A Dockerfile, stage by stage."""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name in capitals, and the rest of it on one line."""

    name: str
    value: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a RUN."""
        commands, words = [], shlex.shlex(self.value, posix=True, punctuation_chars=";&|<>")
        words.whitespace_split = True
        command: list[str] = []
        for word in words:
            if set(word) <= set(";&|"):
                commands.append(command)
                command = []
            else:
                command.append(word)
        return [*commands, command]

    @property
    def flags(self) -> dict[str, str]:
        """The ``--name=value`` of a COPY."""
        return dict(re.findall(r"--(\S+?)=(\S+)", self.value))

    @property
    def sources(self) -> list[str]:
        """The sources of a COPY."""
        return [word for word in shlex.split(self.value) if not word.startswith("--")][:-1]

    @property
    def pairs(self) -> dict[str, str]:
        """The names and values of an ENV or LABEL."""
        return dict(word.split("=", 1) for word in shlex.split(self.value))


@dataclass
class Stage:
    """A build stage, which begins with a FROM."""

    base: str
    name: str
    own: list[Instruction] = field(default_factory=list)
    parent: Stage | None = None

    @property
    def all(self) -> list[Instruction]:
        """All instructions, starting with those of the stage that it is based on."""
        return [*(self.parent.all if self.parent else []), *self.own]

    def values(self, name: str) -> list[str]:
        """All instructions with this name, those of its base first."""
        return [instruction.value for instruction in self.all if instruction.name == name]

    def pairs(self, name: str) -> dict[str, str]:
        """All names and values of its ENV or LABEL instructions."""
        return {key: value for found in self.all if found.name == name for key, value in found.pairs.items()}


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile of the repository."""

    path: str
    arguments: dict[str, str]
    stages: list[Stage]

    @property
    def final(self) -> Stage:
        """The last stage, which becomes the image."""
        return self.stages[-1]

    @property
    def instructions(self) -> list[Instruction]:
        """The instructions of all stages."""
        return [instruction for stage in self.stages for instruction in stage.own]

    def before(self, stage: Stage, text: str) -> list[Instruction]:
        """The instructions of ``stage`` before the RUN with ``text``."""
        for number, instruction in enumerate(stage.all):
            if instruction.name == "RUN" and text in instruction.value:
                return stage.all[:number]
        raise AssertionError(f"{self.path}: expected a RUN with {text!r} in stage {stage.name!r}, found none")


def read(path: str) -> Dockerfile:
    """The Dockerfile at ``path`` below the repository's root."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for item in DockerfileParser(fileobj=io.BytesIO((ROOT / path).read_bytes())).structure:
        name, value = item["instruction"], item["value"]
        if name == "FROM":
            base, _, alias = value.partition(" AS ")
            parent = next((stage for stage in stages if stage.name == base), None)
            stages.append(Stage(base, alias or str(len(stages)), parent=parent))
        elif name == "ARG" and not stages:
            key, _, default = value.partition("=")
            arguments[key] = default
        elif name != "COMMENT":
            stages[-1].own.append(Instruction(name, value))
    return Dockerfile(path, arguments, stages)
