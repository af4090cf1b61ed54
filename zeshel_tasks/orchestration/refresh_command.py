"""The commands that encode the knowledge bases of a store for a new champion, ``zeshel kb refresh --all``."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from zeshel_tasks.champion.champions import Champion, read_champions
from zeshel_tasks.errors import ZeshelError
from zeshel_tasks.knowledge_base.cuts import cut_of, encoding_of_cut
from zeshel_tasks.knowledge_base.head import KnowledgeBase, names
from zeshel_tasks.orchestration.params import recipe_of, run_config_of
from zeshel_tasks.orchestration.segment_commands import FOR_CHAMPION, change_record, segments_to_encode
from zeshel_tasks.orchestration.settings import run_address
from zeshel_tasks.orchestration.store_command import StoreCommand
from zeshel_tasks.orchestration.task_command import NotDone, Outcome
from zeshel_tasks.store import Run, Store, open_run

log = logging.getLogger(__name__)


def check_encoded(store: Store, bases: Iterable[str], biencoder: str) -> None:
    """Check that a bi-encoder has encoded knowledge bases, of which some may have been deleted.

    Raises:
        NotDone: another one has encoded one of them.
    """
    for name in bases:
        base = KnowledgeBase.read(store, name)
        if base.exists and base.head.encoding.biencoder != biencoder:
            raise NotDone(f"the knowledge base {name} has vectors of another bi-encoder than {biencoder}")


class RefreshCommand(StoreCommand):
    """Encodes the store's knowledge bases again if the run has promoted another bi-encoder.

    Those of more than `sharded_from` entities are only cut into segments, which the tasks after it encode and publish.
    The task is skipped without knowledge bases, and if the model of the run is not the champion.

    Its XCom is a list with the segments of each task that encodes them.
    """

    name = "refresh-knowledge-bases"

    def arguments(self, context: Any) -> list[str]:
        """Return the arguments of ``zeshel kb refresh``."""
        return [*self._arguments(context), f"--sharded_from={self._bound(context)}"]

    def reused(self, context: Any) -> Outcome | None:
        """Return the outcome if none needs another encoding.

        Raises:
            AirflowSkipException: there is nothing to refresh, or the Param ``refresh`` is false.
        """
        if run_config_of(context["params"]).refresh is False:
            raise AirflowSkipException("the Param refresh is false")
        run = self._run(context)
        try:
            if not any(names(run.store)):
                raise AirflowSkipException("the store has no knowledge bases")
            if self._champion(run) is None:
                raise AirflowSkipException("the model of this run is not the champion")
            return self.outcome(context, ended=True)
        except NotDone:
            return None
        except (ZeshelError, OSError) as error:
            log.info("%s: the command will find out what to do: %s", self.name, error)
            return None

    def outcome(self, context: Any, *, ended: bool) -> Outcome:  # noqa: ARG002  # the heads decide in any case
        """Return the segments of each task. The champion's bi-encoder has encoded all other knowledge bases."""
        run, record = self._run(context), change_record(FOR_CHAMPION, context)
        champion = self._champion(run)
        if champion is None:  # its own run refreshes them
            return Outcome([], {})
        cuts = {name: cut_of(run.store, name, record) for name in sorted(names(run.store))}
        cut = {name: cut for name, cut in cuts.items() if cut and encoding_of_cut(cut).biencoder == champion.biencoder}
        check_encoded(run.store, cuts.keys() - cut.keys(), champion.biencoder)
        return Outcome(segments_to_encode(cut.items(), self._bound(context)), {})

    def _arguments(self, context: Any) -> list[str]:
        record = change_record(FOR_CHAMPION, context)
        return ["kb", "refresh", f"--store={self.store}", "--all", f"--record={record}"]

    @staticmethod
    def _bound(context: Any) -> int:
        return recipe_of(context["params"]).eval_biencoder.sharded_from

    def _run(self, context: Any) -> Run:
        return open_run(run_address(self.store, context["run_id"]))

    def _champion(self, run: Run) -> Champion | None:
        """Return the champion, if it is the model of the run."""
        champion, fused = read_champions(run.store).champion, run.record("fuse")
        return champion if champion is not None and fused is not None and champion.identity == fused.artifact else None


class PublishRefreshed(RefreshCommand):
    """Makes the encoded segments of large knowledge bases theirs. Without large ones, there is nothing to do.

    Until then, `zeshel serve` links with the previous champion. The task is skipped without knowledge bases, and if the
    model of the run is not the champion.
    """

    name = "publish-knowledge-bases"
    asset = Asset(name="zeshel-publish-knowledge-bases", group="zeshel")

    def arguments(self, context: Any) -> list[str]:
        """Return the arguments of ``zeshel kb refresh``, which finds the segments."""
        return self._arguments(context)

    def outcome(self, context: Any, *, ended: bool) -> Outcome:  # noqa: ARG002  # the heads decide in any case
        """Return the names of the knowledge bases, which the champion's bi-encoder has encoded."""
        run = self._run(context)
        champion = self._champion(run)
        found = sorted(names(run.store))
        if champion is not None:  # else its own run refreshes them
            check_encoded(run.store, found, champion.biencoder)
        return Outcome({"knowledge_bases": found}, {"run": run.address, "knowledge_bases": found})
