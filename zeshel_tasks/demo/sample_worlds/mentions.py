"""Writes the pages of a sample world and the mentions in them. As in ZESHEL, a context is a page of the same world."""

from __future__ import annotations

import random
from dataclasses import dataclass

from zeshel_tasks.data.mention_category import MentionCategory, mention_category
from zeshel_tasks.demo.sample_worlds.vocabulary import BRIDGES, CLOSINGS, OPENINGS, fill
from zeshel_tasks.demo.sample_worlds.world import Entity


@dataclass(frozen=True)
class Mention:
    """A mention of the entity with index ``target``, in tokens ``start`` to ``end`` inclusive."""

    target: int
    start: int
    end: int
    text: str
    category: MentionCategory


@dataclass(frozen=True)
class Page:
    """The page of an entity: tokens separated by spaces, and the mentions in it."""

    text: str
    mentions: tuple[Mention, ...]


def write_page(entities: list[Entity], index: int, targets: list[int], rng: random.Random) -> Page:
    """Write the facts about ``entities[index]``, then one passage for each target, which mentions it."""
    tokens = _introduction(entities[index], rng).split()
    mentions = []
    for target in targets:
        entity = entities[target]
        surface = _surface(entity, rng)
        before, after = _passage(entity, surface, rng)
        tokens += [*rng.choice(BRIDGES).split(), *before.split()]
        start = len(tokens)
        tokens += surface.split()
        mentions.append(Mention(target, start, len(tokens) - 1, surface, mention_category(surface, entity.title)))
        tokens += after.split()
    return Page(" ".join(tokens), tuple(mentions))


def _introduction(entity: Entity, rng: random.Random) -> str:
    facts = [
        fill(rng.choice(attribute.page), value)
        for attribute, value in zip(entity.entity_class.attributes, entity.facts, strict=True)
    ]
    rng.shuffle(facts)
    pronoun = entity.entity_class.pronoun
    called = f", also called the {entity.nickname} ," if entity.nickname else ""
    kind = fill("a {}", entity.kind)
    return (
        f"{entity.name} {called} is {kind} that {facts[0]} and {facts[1]} . "
        f"{pronoun} {facts[2]} , {facts[3]} and {facts[4]} ."
    )


def _surface(entity: Entity, rng: random.Random) -> str:
    """The words with which a text refers to the entity."""
    if entity.nickname and rng.random() < 0.4:
        return entity.nickname
    words = entity.name.split()
    return rng.choice(words) if len(words) > 1 and rng.random() < 0.5 else entity.name


def _passage(entity: Entity, surface: str, rng: random.Random) -> tuple[str, str]:
    """Text before and after the mention. It states two or three facts about the entity in other words."""
    hints = [
        fill(rng.choice(attribute.context), value)
        for attribute, value in zip(entity.entity_class.attributes, entity.facts, strict=True)
    ]
    hints = rng.sample(hints, rng.choice((2, 3)))
    if rng.random() < 0.5:
        hints[0] = f"that {entity.kind}"
    opening = rng.choice(OPENINGS) + (" the" if surface == entity.nickname else "")
    closing = rng.choice(CLOSINGS)
    return opening, f", {' , '.join(hints)} , {closing} ."
