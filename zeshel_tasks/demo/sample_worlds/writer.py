"""Writes sample worlds to a ``.tar.bz2`` in ZESHEL's layout."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zeshel_tasks.demo.sample_worlds import vocabulary
from zeshel_tasks.demo.sample_worlds.language import Language, make_languages
from zeshel_tasks.demo.sample_worlds.mentions import write_page
from zeshel_tasks.demo.sample_worlds.world import make_entities
from zeshel_tasks.text.json_text import to_json

SAMPLE_WORLDS: dict[str, tuple[str, ...]] = {
    "train": vocabulary.words(
        "amberfell brackwater cinder_coast dunmarrow elderwick frostmere gull_islands hollow_march isle_of_ferns "
        "jasper_vale kettle_moor lantern_hills mossgate nettle_fen oxbow pilgrim_downs"
    ),
    "val": vocabulary.words("ironvale kestrel_bay quarry_town rookery"),
    "test": vocabulary.words("larkspur_reach mistral_heath saltmarsh thistledown"),
}
"""Names of the worlds by split, with ZESHEL's names of the splits."""


def write_sample_worlds(
    archive: Path, seed: int = 7, *, entities_per_world: int = 200, mentions_per_world: int = 100
) -> None:
    """Write the archive. Equal arguments give equal bytes.

    Args:
        archive: ``.tar.bz2`` to write.
        seed: of all random choices.
        entities_per_world: documents in each world.
        mentions_per_world: mentions in each world. Entities are mentioned again only after all were mentioned.

    Raises:
        ValueError: a world would be empty, or have more entities than a language has names (thousands).
    """
    if entities_per_world < 2 or mentions_per_world < 1:
        raise ValueError(
            f"expected at least 2 entities and 1 mention a world, got {entities_per_world} and {mentions_per_world}"
        )
    archive.parent.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    languages = make_languages(rng, _shared_words())
    with tarfile.open(archive, "w:bz2") as tar:
        for split, worlds in SAMPLE_WORLDS.items():
            rows: list[dict[str, Any]] = []
            for world in worlds:
                documents, mentions = _world_rows(
                    world, next(languages), rng, seed, entities_per_world, mentions_per_world
                )
                _add(tar, f"zeshel/documents/{world}.json", documents)
                rows += mentions
            _add(tar, f"zeshel/mentions/{split}.json", rows)


def _world_rows(
    world: str, language: Language, rng: random.Random, seed: int, entity_count: int, mention_count: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The documents and the mentions of one world, as JSON objects."""
    entities = make_entities(language, rng, entity_count)
    ids = [_hexadecimal_id(seed, world, "document", index) for index in range(entity_count)]
    documents: list[dict[str, Any]] = []
    mentions: list[dict[str, Any]] = []
    for index, targets in enumerate(_spread(rng, entity_count, mention_count)):
        page = write_page(entities, index, targets, rng)
        documents.append({"title": entities[index].title, "text": page.text, "document_id": ids[index]})
        for mention in page.mentions:
            mentions.append(
                {
                    "category": mention.category,
                    "text": mention.text,
                    "end_index": mention.end,
                    "context_document_id": ids[index],
                    "label_document_id": ids[mention.target],
                    "mention_id": _hexadecimal_id(seed, world, "mention", len(mentions)),
                    "corpus": world,
                    "start_index": mention.start,
                }
            )
    return documents, mentions


def _spread(rng: random.Random, pages: int, mentions: int) -> list[list[int]]:
    """The entities that each page mentions: all about equally often, and no page mentions its own."""
    targets: list[list[int]] = [[] for _ in range(pages)]
    order: list[int] = []
    for _ in range(mentions):
        order = order or rng.sample(range(pages), pages)
        target = order.pop()
        page = rng.randrange(pages - 1)
        targets[page + (page >= target)].append(target)
    return targets


def _hexadecimal_id(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:16].upper()


def _shared_words() -> set[str]:
    """All words of the shared vocabulary, which must not be used as names."""
    texts: list[str] = [*vocabulary.OPENINGS, *vocabulary.CLOSINGS, *vocabulary.BRIDGES]
    for entity_class in vocabulary.ENTITY_CLASSES:
        texts += [*entity_class.kinds, entity_class.pronoun]
        for attribute in entity_class.attributes:
            texts += [*attribute.values, *attribute.page, *attribute.context]
    texts += [*vocabulary.NICKNAME_ADJECTIVES, *vocabulary.NICKNAME_NOUNS]
    return {word.lower() for text in texts for word in text.split()}


def _add(tar: tarfile.TarFile, name: str, rows: Iterable[dict[str, Any]]) -> None:
    data = "".join(to_json(row) + "\n" for row in rows).encode()
    member = tarfile.TarInfo(name)  # with constant mtime, owner and mode, so that the bytes depend only on the seed
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
