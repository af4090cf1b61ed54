"""The processes of a training over several nodes, seen from one of them: what they tell each other.

The first process decides whether an artifact is reused, commits it and records it. The others do as it says. They all
compare their settings before they start (``gang_joining.py``). An error of one process ends the others with the same
exit code (``gang_failure.py``).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.json_text import to_json


class Gang:
    """The processes that train together, seen from one of them. This class is a process on its own.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        of_nodes: True if each process stands for a machine and starts processes of its own.
    """

    rank = 0
    size = 1
    of_nodes = False

    @property
    def leads(self) -> bool:
        """True for the first process, which alone commits and records."""
        return self.rank == 0

    @property
    def broken(self) -> bool:
        """True if another process has failed."""
        return False

    def gather(self, text: str) -> list[str]:
        """Returns the texts of all processes, by rank."""
        return [text]

    def tell(self, text: str) -> None:
        """Sends a text from the first process to all others, which :meth:`hear` it, in order."""

    def hear(self) -> str:
        """Returns the next text that the first process tells. Waits for it."""
        raise AssertionError("there is no other process")

    def shared(self, make: Callable[[], str]) -> str:
        """Returns to all processes what the first one makes."""
        text = make() if self.leads else self.hear()
        if self.leads:
            self.tell(text)
        return text

    @contextmanager
    def first_then_others(self) -> Iterator[None]:
        """The first process runs the body of the context, then the others do."""
        if not self.leads:
            self.hear()
        yield
        if self.leads:
            self.tell("")

    def check_same(self, facts: Mapping[str, Any]) -> None:
        """Checks that all processes know the same facts.

        Raises:
            ConfigError: a process differs from the first one.
        """
        mine = {name: to_json(value) for name, value in facts.items()}
        everyone = [_Facts.model_validate_json(text) for text in self.gather(_Facts.of(mine).model_dump_json())]
        problems = [
            f"{name}: expected {expected}, as in process 0 on {everyone[0].host}, got {other.facts.get(name)} in "
            f"process {rank} on {other.host}"
            for rank, other in enumerate(everyone)
            for name, expected in everyone[0].facts.items()
            if other.facts.get(name) != expected
        ]
        if problems:
            raise ConfigError(*problems)


ALONE = Gang()


class _Facts(BaseModel):
    host: str
    facts: dict[str, str]

    @classmethod
    def of(cls, facts: dict[str, str]) -> _Facts:
        return cls(host=socket.gethostname(), facts=facts)
