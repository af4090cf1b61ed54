"""The commands of the DAG ``zeshel_link`` that prepare the knowledge base."""

from __future__ import annotations

from typing import Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from zeshel_tasks.champion.champions import KEY, read_champions
from zeshel_tasks.errors import ConfigError, ZeshelError
from zeshel_tasks.knowledge_base.cuts import cut_of
from zeshel_tasks.knowledge_base.head import KnowledgeBase
from zeshel_tasks.orchestration.link_commands import LinkDagCommand, checked_request, chosen_models, model_arguments
from zeshel_tasks.orchestration.link_params import LinkRequest
from zeshel_tasks.orchestration.refresh_command import check_encoded
from zeshel_tasks.orchestration.segment_commands import FOR_LINKS, change_record, segments_to_encode
from zeshel_tasks.orchestration.task_command import NotDone, Outcome, failure, setting_arguments
from zeshel_tasks.store import Manifest, open_run, open_store


class KnowledgeBaseCommand(LinkDagCommand):
    """Builds the knowledge base of the given entities, or encodes it again if another bi-encoder has encoded it.

    Unless the Param ``refresh`` is true, only the champion's bi-encoder replaces the vectors of another one: the
    knowledge base may be in use with the champion. One of more than ``sharded_from`` entities is only cut into
    segments, which the tasks after it encode and publish.

    Its XCom is a list with the segments of each task that encodes them.
    """

    name = "knowledge-base"

    def arguments(self, context: Any) -> list[str]:
        """Return the arguments of ``zeshel kb build`` or ``zeshel kb refresh``."""
        request = checked_request(self.name, context["params"])
        return self._arguments(request, context, [f"--sharded_from={request.run.sharded_from}"])

    def _arguments(self, request: LinkRequest, context: Any, given: list[str]) -> list[str]:
        base = [f"--store={self.store}", f"--name={request.run.kb}", *model_arguments(self.name, context)]
        base += [f"--record={change_record(FOR_LINKS, context)}", *given]
        base += setting_arguments({name: value for name, value in request.settings.items() if name == "device"})
        if not request.run.entities:
            return ["kb", "refresh", *base]
        return ["kb", "build", *base, *setting_arguments(request.entity_files), "--", *request.run.entities]

    def reused(self, context: Any) -> Outcome | None:
        """Return an empty list if the models' bi-encoder has encoded the knowledge base and no entities are given.

        Raises:
            AirflowSkipException: the knowledge base is to be left as it is.
            AirflowFailException: it has the vectors of another bi-encoder, which are not to be replaced.
            AirflowException: the store does not answer.
        """
        return Outcome([], {}) if self._is_encoded(context) else None

    def outcome(self, context: Any, *, ended: bool) -> Outcome:
        """Return the segments of each task; an empty list if the command has done all of it."""
        run, cut = checked_request(self.name, context["params"]).run, self._cut(context)
        if cut is not None and ended:
            return Outcome(segments_to_encode([(run.kb, cut)], run.sharded_from), {})
        self._check_encoded(context, ended=ended)
        return Outcome([], {})

    def _is_encoded(self, context: Any) -> bool:
        run = checked_request(self.name, context["params"]).run
        if not run.entities and run.refresh is False:
            raise AirflowSkipException(f"the knowledge base {run.kb} is left as it is")
        try:
            store, biencoder = open_store(self.store), self._biencoder(context)
            base = KnowledgeBase.read(store, run.kb)
            encoded_by = None if run.entities and not base.exists else base.head.encoding.biencoder
            champion = read_champions(store).champion
        except ZeshelError as error:
            raise failure(self.name, error.exit_code, str(error).splitlines()) from error
        if encoded_by == biencoder and not run.entities:
            return True
        of_champion = champion is not None and champion.biencoder == biencoder
        if encoded_by not in (None, biencoder) and not (of_champion if run.refresh is None else run.refresh):
            raise AirflowFailException(
                f"{self.name}: the knowledge base {run.kb} has vectors of another bi-encoder than the run's models, "
                "not retried. A run replaces them if its Param `refresh` is true, or if it is empty and the models are "
                "the champion's. Trigger a new run that links with the champion or sets `refresh`, or give `entities` "
                "for a knowledge base of another name"
            )
        return False

    def _cut(self, context: Any) -> Manifest | None:
        name = checked_request(self.name, context["params"]).run.kb
        return cut_of(open_store(self.store), name, change_record(FOR_LINKS, context))

    def _check_encoded(self, context: Any, *, ended: bool) -> None:
        run = checked_request(self.name, context["params"]).run
        if run.entities and not ended:  # the store does not show of which entities it is
            raise NotDone("the end of its command is unknown")
        store = open_store(self.store)
        if not KnowledgeBase.read(store, run.kb).exists:
            raise NotDone(f"there is no knowledge base {run.kb} at {self.store}")
        check_encoded(store, [run.kb], self._biencoder(context))

    def _biencoder(self, context: Any) -> str:
        """Return the folder of the bi-encoder of the models that the first task has chosen.

        Raises:
            ConfigError: it is unknown.
        """
        chosen = chosen_models(self.name, context)
        if "run" in chosen:
            record = open_run(chosen["run"]).record("train-biencoder")
            if record is None:
                raise ConfigError(f"run: expected a run that has finished train-biencoder, got {chosen['run']}")
            return record.artifact
        champion = read_champions(open_store(self.store)).with_models(chosen["models"])
        if champion is None:
            raise ConfigError(f"expected models {chosen['models']:.12} of a champion at {self.store}/{KEY}, got none")
        return champion.biencoder


class PublishCommand(KnowledgeBaseCommand):
    """Makes the encoded segments those of the knowledge base. Without segments, there is nothing to do."""

    name = "publish"

    def arguments(self, context: Any) -> list[str]:
        """Return the arguments of ``zeshel kb build`` or ``zeshel kb refresh``, which finds the segments."""
        return self._arguments(checked_request(self.name, context["params"]), context, [])

    def reused(self, context: Any) -> Outcome | None:
        """Return the name of the knowledge base if it is encoded, or was not cut.

        Raises:
            AirflowSkipException, AirflowFailException, AirflowException: as in the task that cuts it.
        """
        try:
            is_done = self._is_encoded(context) or self._cut(context) is None
        except ZeshelError as error:
            raise failure(self.name, error.exit_code, str(error).splitlines()) from error
        return self._published(context) if is_done else None

    def outcome(self, context: Any, *, ended: bool) -> Outcome:
        """Return the name of the knowledge base, which the models' bi-encoder has encoded."""
        self._check_encoded(context, ended=ended)
        return self._published(context)

    def _published(self, context: Any) -> Outcome:
        return Outcome({"kb": checked_request(self.name, context["params"]).run.kb}, {})
