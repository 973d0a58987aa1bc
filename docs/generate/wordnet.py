"""WordNet's database, read from its files: see WordNet's manual pages wndb, senseidx and morphy."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
SENSE_PARTS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
ENDINGS = {
    "n": [("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
          ("ies", "y")],
    "v": [("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")],
    "a": [("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
}  # fmt: skip
"""WordNet's own rules of inflection."""


@dataclass(frozen=True)
class Synset:
    """One meaning: the number of its lexicographer file, its kind, its words, what it points to, and its gloss.

    The kind is "s" for an adjective near another. A pointer is a symbol, another meaning, and the number of the word
    that points, 0 for all.
    """

    file: int
    kind: str
    words: tuple[str, ...]
    pointers: tuple[tuple[str, tuple[str, str], int], ...]
    gloss: str


@dataclass(frozen=True)
class Sense:
    """A word's meaning: which, its place among those of its part of speech, and how often it was tagged."""

    part: str
    synset: tuple[str, str]
    place: int
    count: int


class WordNet:
    """WordNet's database in memory, read from its folder."""

    def __init__(self, folder: Path) -> None:
        self.synsets = {key: synset for name, part in PARTS.items() for key, synset in read_data(folder, name, part)}
        self.lower: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for key, synset in self.synsets.items():
            for word in synset.words:
                if word.islower():
                    self.lower[word].add(key)
        self.senses: dict[str, list[Sense]] = defaultdict(list)
        for line in (folder / "index.sense").read_text().splitlines():
            name, offset, place, count = line.split()
            word, rest = name.split("%")
            part = SENSE_PARTS[rest[0]]
            self.senses[word].append(Sense(part, (part, offset), int(place), int(count)))
        self.exceptions: dict[str, dict[str, list[str]]] = {}
        for name, part in PARTS.items():
            lines = (folder / f"{name}.exc").read_text().splitlines()
            self.exceptions[part] = {form: bases for form, *bases in map(str.split, lines)}

    def parts(self, word: str) -> set[str]:
        """The parts of speech that a word written in lower case has."""
        return {part for part, _ in self.lower.get(word, ())}

    def tagged(self, word: str) -> Counter[str]:
        """How often the word, in lower case, was tagged as each part of speech."""
        found: Counter[str] = Counter()
        for sense in self.senses.get(word, ()):
            if sense.synset in self.lower.get(word, ()):
                found[sense.part] += sense.count
        return found

    def is_mainly_noun(self, word: str) -> bool:
        """Whether at least half of what was tagged of it, in lower case, is a noun."""
        tagged = self.tagged(word)
        return "n" in self.parts(word) and 2 * tagged["n"] >= tagged.total()

    def first_noun(self, word: str) -> int | None:
        """The lexicographer file of the word's first meaning as a noun in lower case."""
        nouns = [each for each in self.senses.get(word, ()) if each.part == "n" and each.synset in self.lower[word]]
        return self.synsets[min(nouns, key=lambda sense: sense.place).synset].file if nouns else None

    def bases(self, form: str) -> set[tuple[str, str]]:
        """The other words, with their part of speech, of which it may be a form."""
        pairs: set[tuple[str, str]] = set()
        for part, endings in ENDINGS.items():
            found = set(self.exceptions[part].get(form, ()))
            if not found and not (part == "n" and form.endswith("ss")):
                cut = [form[: -len(end)] + put for end, put in endings if form.endswith(end)]
                found = {*cut, *(each[:-1] for each in cut if part != "n" and re.search(r"([^aeiou])\1$", each))}
            pairs |= {(base, part) for base in found if part in self.parts(base) and base != form}
        return pairs

    def above(self, key: tuple[str, str]) -> Iterable[Synset]:
        """A synset and all that are more general."""
        seen, waiting = set(), [key]
        while waiting:
            each = waiting.pop()
            if each not in seen:
                seen.add(each)
                yield self.synsets[each]
                waiting += [to for symbol, to, _ in self.synsets[each].pointers if symbol in ("@", "@i")]


def read_data(folder: Path, name: str, part: str) -> Iterable[tuple[tuple[str, str], Synset]]:
    """The synsets of a data file, with their keys."""
    for line in (folder / f"data.{name}").read_text().splitlines():
        if line.startswith("  "):
            continue
        head, _, gloss = line.partition(" | ")
        offset, file, kind, n, *fields = head.split()
        words, fields = fields[: 2 * int(n, 16) : 2], fields[2 * int(n, 16) :]
        rows = [fields[at : at + 4] for at in range(1, 1 + 4 * int(fields[0]), 4)]
        pointers = tuple(
            (symbol, (target_part.replace("s", "a"), to), int(source[:2], 16))
            for symbol, to, target_part, source in rows
        )
        yield (part, offset), Synset(int(file), kind, tuple(word.split("(")[0] for word in words), pointers, gloss)
