"""Generates the entities of a sample world: titles, other names, and facts."""

from __future__ import annotations

import random
from dataclasses import dataclass

from zeshel_tasks.demo.sample_worlds.language import Language
from zeshel_tasks.demo.sample_worlds.vocabulary import (
    ENTITY_CLASSES,
    NICKNAME_ADJECTIVES,
    NICKNAME_NOUNS,
    PERSON,
    EntityClass,
)

# Of 100 names, how many belong to one, two, ... entities. Shared names force a linker to read the context.
_NAMESAKES = (1, 2, 3, 4, 5)
_NAMESAKE_WEIGHTS = (30, 25, 20, 15, 10)
_THINGS = tuple(entity_class for entity_class in ENTITY_CLASSES if entity_class is not PERSON)


@dataclass(frozen=True)
class Entity:
    """An entity of a world.

    Args:
        title: unique in its world: the name, or the name and the kind in parentheses: ``Vask ( ferry )``.
        name: several entities may share it; a person's name has two words.
        nickname: a second name without common words, or ``None``.
        entity_class: determines its attributes.
        kind: the noun for it.
        facts: one value for each attribute of the class, in order.
    """

    title: str
    name: str
    nickname: str | None
    entity_class: EntityClass
    kind: str
    facts: tuple[str, ...]


def make_entities(language: Language, rng: random.Random, count: int) -> list[Entity]:
    """Generate ``count`` entities, most of which share their name or a part of it with others."""
    families = [language.name() for _ in range(max(2, count // 20))]
    nicknames = [f"{adjective} {noun}" for adjective in NICKNAME_ADJECTIVES for noun in NICKNAME_NOUNS]
    rng.shuffle(nicknames)
    entities: list[Entity] = []
    while len(entities) < count:
        entities += _namesakes(language, rng, families, nicknames)
    return entities[:count]


def _namesakes(language: Language, rng: random.Random, families: list[str], nicknames: list[str]) -> list[Entity]:
    """One to five entities of different kinds that share a name; the first may have it as its title."""
    shared_class = rng.choice(ENTITY_CLASSES)
    name = f"{language.name()} {rng.choice(families)}" if shared_class is PERSON else language.name()
    number = rng.choices(_NAMESAKES, _NAMESAKE_WEIGHTS)[0]
    kinds: set[str] = set()
    made: list[Entity] = []
    for _ in range(number):
        # Only facts distinguish namesakes of one class (two vessels); any hint distinguishes others.
        entity_class = shared_class if shared_class is PERSON or rng.random() < 0.6 else rng.choice(_THINGS)
        kind = rng.choice([kind for kind in entity_class.kinds if kind not in kinds])
        kinds.add(kind)
        bare = number == 1 or (not made and rng.random() < 0.5)
        nickname = nicknames.pop().title() if nicknames and rng.random() < 0.3 else None
        facts = tuple(rng.choice(attribute.values) for attribute in entity_class.attributes)
        made.append(Entity(name if bare else f"{name} ( {kind} )", name, nickname, entity_class, kind, facts))
    return made
