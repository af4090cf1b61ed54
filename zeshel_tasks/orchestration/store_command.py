"""What the commands of the tasks that are no stages have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from airflow.sdk import Asset, BaseOperatorLink


@dataclass(frozen=True)
class StoreCommand:
    """Defaults of a :class:`~zeshel_tasks.orchestration.task_command.TaskCommand` that works on a store.

    Attributes:
        store: root address of runs, artifacts, models and knowledge bases.
    """

    store: str

    name: ClassVar[str]
    runs_a_model: ClassVar[bool] = True
    is_small: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    asset: ClassVar[Asset | None] = None
    links: ClassVar[Sequence[BaseOperatorLink]] = ()

    @property
    def labels(self) -> Mapping[str, str]:
        """The task's name."""
        return {"zeshel/stage": self.name}
