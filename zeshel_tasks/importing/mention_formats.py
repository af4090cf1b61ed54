"""The formats of texts with mentions."""

from __future__ import annotations

from dataclasses import dataclass

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.importing.annotated import Match, MentionFormat
from zeshel_tasks.importing.annotation_tools import doccano_texts, label_studio_texts, prodigy_texts
from zeshel_tasks.importing.brat import brat_texts
from zeshel_tasks.importing.conll import aida_texts
from zeshel_tasks.importing.marked import blink_texts, kilt_texts
from zeshel_tasks.importing.offsets import OffsetUnit
from zeshel_tasks.importing.plain import plain_texts

MENTION_FORMATS = {
    "jsonl": MentionFormat('{"text", "spans": [{"start", "end", "entity"}]}', plain_texts, {"entity": "id"}),
    "blink": MentionFormat(
        "JSON lines of BLINK",
        blink_texts,
        {
            "label_id": "position",
            "label_title": "title",
            "Wikipedia_ID": "id",
            "Wikipedia_title": "title",
            "Wikipedia_URL": "url",
        },
        offsets=None,
    ),
    "kilt": MentionFormat(
        "JSON lines of KILT", kilt_texts, {"wikipedia_id": "id", "title": "title", "answer": "title"}, offsets=None
    ),
    "aida": MentionFormat(
        "AIDA-CoNLL-YAGO",
        aida_texts,
        {"title": "title", "url": "url", "wikipedia_id": "id", "freebase": "id"},
        offsets=None,
    ),
    "brat": MentionFormat(
        "x.ann of brat, with x.txt beside it",
        brat_texts,
        {"reference": "id", "reference_title": "title", "type": "id"},
    ),
    # doccano counts as JavaScript does (doccano/doccano#2290). Label Studio counts code points since
    # HumanSignal/label-studio-frontend#308; before that, it counted as JavaScript does.
    "doccano": MentionFormat("JSONL of doccano", doccano_texts, {"label": "id"}, offsets="utf16"),
    "label-studio": MentionFormat(
        "JSON of Label Studio",
        label_studio_texts,
        {"labels": "id", "textarea": "id", "choices": "id", "taxonomy": "id"},
    ),
    "prodigy": MentionFormat("JSONL of Prodigy", prodigy_texts, {"kb_id": "id", "label": "id", "accept": "id"}),
}


@dataclass(frozen=True)
class MentionSource:
    """A format with the user's settings.

    Attributes:
        gold: where labels are.
        match: what they are.
        unit: of the offsets.
    """

    format: MentionFormat
    gold: str
    match: Match
    unit: OffsetUnit


def mention_source(name: str, gold: str | None, match: Match | None, unit: OffsetUnit | None) -> MentionSource:
    """Returns a format with the user's settings, which are None if the format decides.

    Raises:
        ConfigError: a setting does not suit the format.
    """
    chosen = MENTION_FORMATS[name]
    gold = gold or next(iter(chosen.golds))
    if gold not in chosen.golds:
        raise ConfigError(f"--gold: expected one of {', '.join(chosen.golds)} with --format {name}, got {gold!r}")
    if unit and not chosen.offsets:
        raise ConfigError(f"--offsets: expected none with --format {name}, which has no offsets, got {unit!r}")
    return MentionSource(chosen, gold, match or chosen.golds[gold], unit or chosen.offsets or "codepoints")
