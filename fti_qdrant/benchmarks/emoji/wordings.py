"""Templates of modification texts: how they are filled in, and what their sentence structure is."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fti_qdrant.benchmarks.emoji.facts import Emoji

Wordings = Mapping[str, tuple[str, ...]]
"""Facet -> templates."""

Slots = Mapping[str, str]
"""Name of a slot -> the words that stand for it."""

PRONOUNS = {
    "woman": {"them": "her", "their": "her", "they": "she"},
    "man": {"them": "him", "their": "his", "they": "he"},
    "person": {"them": "them", "their": "their", "they": "they"},
}
IT = {"them": "it", "their": "its", "they": "it"}
"""For an emoji whose gender the sequence does not state."""

FILLERS = frozenset(
    ["a", "an", "the", "please", "just", "now", "instead", "but", "same", "only", "actually", "so"]
)
"""Words that change nothing in the structure of a sentence; ``this time`` is one too."""

THINGS = frozenset(
    {"it", "its", "this", "one", "thing", "someone", "person", "gender", "skin", "tone", "hair"}
    | {"haircut", "color", "colour", "time", "clock", "hands", "view", "side", "direction", "way"}
    | {"{them}", "{their}", "{they}"}
)
"""What the text is about: a pronoun, or the name of what changes."""

_WORD = re.compile(r"\{\w+\}|[a-z']+")
_SLOT = re.compile(r"(\ba )?\{(\w+)\}")


def slots_of(facet: str, reference: Emoji, target: Emoji) -> dict[str, str]:
    """What can stand in the templates of an edit.

    ``value`` is what the facet becomes, as Unicode says it ("dark skin tone", "bald"); ``spoken``
    as people say it ("dark skin", "a bald head"); ``short`` in one word ("dark"), where there is
    one. ``old``, ``old_spoken`` and ``old_short`` are what it was, where the reference states it.
    ``them``, ``their`` and ``they`` are the pronouns of the reference.
    """
    slots = _forms(facet, target.facets[facet], "")
    if facet in reference.facets:
        slots |= _forms(facet, reference.facets[facet], "old_")
        slots["old"] = slots.pop("old_value")
    return slots | PRONOUNS.get(reference.facets.get("gender", ""), IT)


def fill(template: str, slots: Slots) -> str | None:
    """The template in words, with "an" before a vowel; None where one of its slots is missing.

    Example:
        >>> fill("a {value} one", {"value": "orange"})
        'an orange one'
        >>> fill("not {old}, {value}", {"value": "dark skin tone"}) is None
        True
    """
    if any(name not in slots for _, name in _SLOT.findall(template)):
        return None

    def words(found: re.Match[str]) -> str:
        value = slots[found[2]]
        article = found[1] or ""
        return (article and ("an " if value[0] in "aeiou" else "a ")) + value

    return _SLOT.sub(words, template)


def structure(template: str) -> str:
    """The structure of a sentence: what is left when values, names and fillers are taken away.

    Values become V, values of the reference O, names and pronouns N (a run of them one N);
    articles, fillers and punctuation are left out. Two templates with the same result are the same
    sentence with other words in it.

    Example:
        >>> structure("change the skin tone to {short}"), structure("please change it to {value}")
        ('change N to V', 'change N to V')
    """
    kept: list[str] = []
    for word in _WORD.findall(template.lower().replace("this time", " ")):
        role = _role(word)
        if word not in FILLERS and not (role == "N" and kept[-1:] == ["N"]):
            kept.append(role)
    return " ".join(kept)


def _role(word: str) -> str:
    if word in THINGS:
        return "N"
    if word.startswith("{old"):
        return "O"
    return "V" if word.startswith("{") else word


def _forms(facet: str, value: str, prefix: str) -> dict[str, str]:
    forms = {"value": value, "spoken": value, "short": value}
    if facet == "tone":
        forms |= {"spoken": value.removesuffix(" tone"), "short": value.removesuffix(" skin tone")}
    if facet == "direction":
        forms["spoken"] = forms["short"] = value.removeprefix("facing ")
    if facet == "hair":
        forms["short"] = value.removesuffix(" hair")
    if value == "bald":
        forms = {"value": value, "spoken": "a bald head"}
    return {prefix + name: words for name, words in forms.items()}
