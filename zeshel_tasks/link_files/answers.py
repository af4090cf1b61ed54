"""The answer for a mention, and the output line: the input line as it was written, with two more fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zeshel_tasks.config.link import LinkMode
from zeshel_tasks.data.document_file import DocumentFile
from zeshel_tasks.link_files.lines import GivenMention, InputLine
from zeshel_tasks.linking.entity_set import EntitySet
from zeshel_tasks.linking.linker import Linked
from zeshel_tasks.linking.models import LinkerModels
from zeshel_tasks.text.json_text import to_json

_DIGITS = 6


@dataclass(frozen=True)
class Answers:
    """Writes answers.

    Attributes:
        documents: the entities.
        top_k: candidates to show of a mention.
        threshold: least probability with which a mention is linked; None links a mention unless it is more likely than
            not that the knowledge base has no entity for it.
        linked_by: what :func:`linked_by` returns, for each line.
    """

    documents: DocumentFile
    top_k: int
    threshold: float | None
    linked_by: dict[str, Any]

    def line(self, line: InputLine, links: list[dict[str, Any]]) -> bytes:
        """Returns an output line. The spelling of numbers and the order of fields are those of the input line."""
        added = to_json({"links": links, "linked_by": self.linked_by}, ensure_ascii=False)
        given = line.written[:-1].rstrip()
        return f"{given}{'' if given == '{' else ', '}{added[1:]}\n".encode()

    def of(self, given: GivenMention, linked: Linked) -> dict[str, Any]:
        """Returns the answer for a mention; ``docs/linking.md`` describes its fields."""
        candidates = [self._candidate(linked, rank) for rank in range(min(self.top_k, len(linked.positions)))]
        nil = self.is_nil(linked)
        first = dict.fromkeys(("id", "title", "url")) if nil else self._entity(int(linked.positions[0]))
        place = {} if given.place is None else {"start": given.place[0], "end": given.place[1]}
        return {
            **place,
            "mention": given.text,
            **first,
            "nil": nil,
            "probability": _rounded(linked.right),
            "nil_probability": _rounded(linked.none),
            "softmax": _rounded(linked.share),
            "candidates": candidates,
        }

    def is_nil(self, linked: Linked) -> bool:
        """Returns True if the mention is not linked."""
        if self.threshold is not None and linked.right is not None:
            return linked.right < self.threshold
        return linked.none is not None and linked.none > 0.5

    def _candidate(self, linked: Linked, rank: int) -> dict[str, Any]:
        scores = {"score": linked.final, "retrieval": linked.retrieval, "crossencoder": linked.crossencoder}
        of_rank = {name: None if values is None else float(values[rank]) for name, values in scores.items()}
        return self._entity(int(linked.positions[rank])) | {name: _rounded(value) for name, value in of_rank.items()}

    def _entity(self, position: int) -> dict[str, Any]:
        document = self.documents[position]
        return {"id": document.document_id, "title": document.title, "url": document.url}


def linked_by(
    models: LinkerModels, mode: LinkMode, entities: EntitySet, calibration: str | None = None
) -> dict[str, str | None]:
    """Returns what identifies models, mode and knowledge base. If all of it is equal, so are the answers.

    ``calibration`` is the fingerprint of the knowledge base's own calibration, if it is used.
    """
    return {
        "run": models.run,
        "models": models.fingerprint,
        "mode": mode,
        "kb": entities.name,
        "kb_fingerprint": entities.fingerprint,
        "calibration": calibration,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
