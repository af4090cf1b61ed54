"""The words that all sample worlds share: kinds of entities, facts about them, and wordings of these facts.

A page states a fact with one wording, and a context alludes to it with another; both contain the value's own word
(``amber``, ``lantern``). Worlds share only these words, so a model can learn to match them in the train worlds and use
this in unseen worlds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribute:
    """One kind of fact: its possible values, and wordings with ``{}`` for the value.

    Args:
        values: the possible values.
        page: verb phrases for the entity's own page.
        context: phrases that follow a mention between commas.
    """

    values: tuple[str, ...]
    page: tuple[str, ...]
    context: tuple[str, ...]


@dataclass(frozen=True)
class EntityClass:
    """A class of entities: its kinds (the word in parentheses in a title), its pronoun and its attributes."""

    kinds: tuple[str, ...]
    pronoun: str
    attributes: tuple[Attribute, ...]


def words(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


def fill(wording: str, value: str) -> str:
    """Insert a value into a wording, and adapt the article."""
    if value[0] in "aeiou":
        wording = f" {wording}".replace(" a {}", " an {}").lstrip()
    return wording.format(value)


_COLOURS = words("amber black blue copper crimson green grey ivory purple scarlet silver white yellow")
_MATERIALS = words("ash bone brass cedar clay flint glass granite iron leather marble oak reed slate")
_LANDS = words("canyons delta desert dunes fens forest glacier highlands islands marshes moors plains steppe")
_GOODS = words("barley cider cloth coal fish fur honey ink pearls pepper salt silk spice tar tea timber wine wool")
_EMBLEMS = words("anchor anvil arrow comet feather fox hammer key lantern moth owl rose shell sickle star wheel")
_AGES = words("bitter broken early golden hollow iron late long lost quiet second silent third young")


def _age(*context: str) -> Attribute:
    return Attribute(_AGES, ("dates from the {} age", "belongs to the {} age"), context)


PERSON = EntityClass(
    words("archer baker brewer carver cook dyer falconer farmer healer mason miner potter scribe smith weaver"),
    "This person",
    (
        Attribute(_COLOURS, ("has {} hair", "wears a {} coat"), ("recognised by so much {}", "dressed in {}")),
        Attribute(_LANDS, ("was born in the {}", "grew up in the {}"), ("a child of the {}", "who came out of the {}")),
        Attribute(_EMBLEMS, ("owns a carved {}", "carries a small {}"), ("never without the {}", "holding up a {}")),
        Attribute(_GOODS, ("is fond of {}", "gives away {}"), ("who would not part with {}", "asking for {}")),
        _age("famous since the {} age", "a voice of the {} age"),
    ),
)
VESSEL = EntityClass(
    words("barge canoe cutter ferry galleon galley raft schooner ship sloop"),
    "This vessel",
    (
        Attribute(_COLOURS, ("flies a {} flag", "has {} sails"), ("all {} in the sun", "painted {}")),
        Attribute(_MATERIALS, ("is built of {}", "has a hull of {}"), ("creaking with old {}", "made from {}")),
        Attribute(_GOODS, ("transports {}", "was launched to carry {}"), ("laden with {}", "smelling of {}")),
        Attribute(
            _LANDS, ("sails along the {}", "guards the coast of the {}"), ("bound for the {}", "back from the {}")
        ),
        _age("afloat since the {} age", "a relic of the {} age"),
    ),
)
PLACE = EntityClass(
    words("abbey bridge castle fortress garden harbour inn library market mill mine temple tower town village"),
    "This place",
    (
        Attribute(_COLOURS, ("has {} roofs", "is known for {} gates"), ("seen from afar as {}", "glowing {} at dusk")),
        Attribute(_MATERIALS, ("was raised from {}", "has walls of {}"), ("cold as its {}", "made from {}")),
        Attribute(_LANDS, ("stands in the {}", "lies at the edge of the {}"), ("deep in the {}", "out in the {}")),
        Attribute(_GOODS, ("stores {}", "lives off the trade in {}"), ("rich in {}", "where they ask for {}")),
        _age("never taken since the {} age", "founded in the {} age"),
    ),
)
ITEM = EntityClass(
    words("banner bell book bowl crown dagger drum flute harp helmet map mask mirror ring shield sword"),
    "This object",
    (
        Attribute(_COLOURS, ("gleams {}", "is wrapped in {} thread"), ("with a {} shimmer", "of a {} tint")),
        Attribute(_MATERIALS, ("is made of {}", "was worked from {}"), ("heavy with {}", "shaped out of {}")),
        Attribute(_EMBLEMS, ("bears the mark of a {}", "shows a {}"), ("engraved with a {}", "with its {}")),
        Attribute(_LANDS, ("was found in the {}", "was lost in the {}"), ("brought from the {}", "dug up in the {}")),
        _age("in use since the {} age", "a gift of the {} age"),
    ),
)
CREATURE = EntityClass(
    words("bear boar crow dragon eagle hound lynx otter serpent spider stag toad tortoise wolf"),
    "This creature",
    (
        Attribute(_COLOURS, ("has {} eyes", "is {} all over"), ("a flash of {}", "with something {} about it")),
        Attribute(_LANDS, ("roams the {}", "sleeps in the {}"), ("strayed from the {}", "driven out of the {}")),
        Attribute(_GOODS, ("feeds on {}", "steals {}"), ("lured with {}", "smelling of {}")),
        Attribute(_EMBLEMS, ("has a scar like a {}", "guards a {}"), ("tamed with a {}", "drawn as a {}")),
        _age("feared since the {} age", "the last of the {} age"),
    ),
)
ORDER = EntityClass(
    words("army choir circle college company council court cult fellowship guild league troupe"),
    "This group",
    (
        Attribute(_COLOURS, ("wears {} robes", "marches in {}"), ("all in {}", "under {} hoods")),
        Attribute(_EMBLEMS, ("has a {} as its seal", "swears by the {}"), ("behind the sign of the {}", "with its {}")),
        Attribute(_GOODS, ("deals in {}", "pays its members in {}"), ("grown rich on {}", "asking for {}")),
        Attribute(_LANDS, ("meets in the {}", "keeps watch over the {}"), ("called from the {}", "hidden in the {}")),
        _age("outlawed in the {} age", "sworn in during the {} age"),
    ),
)
ENTITY_CLASSES = (PERSON, VESSEL, PLACE, ITEM, CREATURE, ORDER)

NICKNAME_ADJECTIVES = words("bold crooked drowned faithful gentle hungry merry nameless patient proud swift wise")
NICKNAME_NOUNS = words("beggar bride dancer daughter flame guest mother neighbour shadow song stranger twin")

OPENINGS = (
    "After the flood came",
    "An old letter names",
    "At the end of winter there was talk of",
    "Later chronicles return to",
    "Most of the quarrel concerned",
    "On the second day everybody looked for",
    "Some accounts begin with",
    "The story would be short without",
    "Then the travellers met",
    "Visitors still ask about",
)
CLOSINGS = (
    "and so the matter rested",
    "as the older songs have it",
    "but nobody wrote down the reason",
    "which settled the dispute at last",
    "and the debt was paid within a year",
    "though few believed it then",
)
BRIDGES = (
    "Little else is recorded of those years .",
    "The rest of the account is damaged .",
    "What followed is told in several ways .",
    "There the first report ends .",
)
