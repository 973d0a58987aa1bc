"""Writes the common words that ship, and their themes: ``python docs/generate/words.py WORDNET SCOWL``.

WORDNET is the folder of WordNet 3.0's database (Debian's packages wordnet-base and wordnet-sense-index put it into
/usr/share/wordnet). SCOWL is the unpacked source of the word lists SCOWL 2020.12.07 (Debian's source package scowl).
The third source is the byte-pair vocabulary of open_clip, whose merges come in the order of how often they occur.

A word is a lemma of WordNet that is written in lower case, with three letters or more; that it or one of its forms is
one token of open_clip's and stands in SCOWL's American lists up to size 60. One form of each lemma is taken: see
:func:`shown`. :func:`is_kept` says what is left out.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wordnet import WordNet

N_WORDS = 10_000
FILE = Path(__file__).parents[2] / "clip_lens_plugin" / "texts" / "common_words.tsv"

NOUN_THEMES = (
    ",action,animal,artefact,quality,body,,communication,event,feeling,food,group,place,,natural object,person,"
    "phenomenon,plant,possession,,quantity,,shape,state,substance,time"
)
"""Of nouns in WordNet's lexicographer files 03 to 28."""
VERB_THEMES = (
    "action,action,thought,communication,action,action,action,action,feeling,action,action,action,action,,weather"
)
"""Of verbs in files 29 to 43."""
ROOTS = {  # a synset of nouns is of the theme if one that holds these words is above it
    ("color", "colour", "coloring", "colouring"): "colour",
    ("clothing", "article_of_clothing", "vesture", "wear", "wearable", "habiliment"): "clothing",
    ("footwear", "footgear"): "clothing",
    ("footwear", "legwear"): "clothing",
    ("conveyance", "transport"): "vehicle",
    ("building", "edifice"): "building",
    ("furniture", "piece_of_furniture", "article_of_furniture"): "furniture",
    ("musical_instrument", "instrument"): "musical instrument",
    ("weather", "weather_condition", "conditions", "atmospheric_condition"): "weather",
}
HEADS = {"chromatic": "colour", "achromatic": "colour", "cardinal": "quantity", "ordinal": "quantity"}
"""Adjectives around these are of the theme; no other adjective has one."""
CERTAIN = 0.9
"""The share of a word's tagged occurrences that one theme has, where there are at least FEW."""
FEW = 10
THINGS = {5, 6, 8, 13, 17, 18, 20, 27}
"""Lexicographer files of what can be seen: animals, artefacts, body, food, objects, persons, plants, substances."""
NATURE = {5, 13, 20, 27}

OWN = 0.1
"""How often a form must be tagged as a word of its own, as a share of what it may be a form of."""
PLURALS = ("briefs", "clothes", "glasses", "pants", "shorts", "tights")  # Their singular says something else.

LARGEST, LARGEST_SHORT, LARGEST_NAME = 60, 40, 50
"""Sizes of SCOWL's lists: of words, of short ones, and of names."""
CLOSED_CLASSES = """
    a about above across after against all along also although am among an and another any anybody anyone anything
    are around as at be because been before behind being below beneath beside besides between beyond both but by can
    could did do does doing done down during each either else etc even ever every everybody everyone everything except
    few for from get gets getting got had has have having he her hers herself him himself his how i if in inside into
    is it its itself just let like lot lots many may me might mine more most much must my myself near neither never no
    nobody none nor not nothing of off on one ones only onto or other our ours ourselves out outside over own past per
    same shall she should since so some somebody someone something such than that the their theirs them themselves then
    there these they this those though through throughout till to too toward towards under unless until up upon us
    versus very via was we were what when where whereas whether which while who whom whose why will with within without
    would yet you your yours yourself yourselves
"""
CLOSED = frozenset(CLOSED_CLASSES.split())
"""Determiners, pronouns, prepositions, conjunctions and auxiliaries: they have no meaning of their own to show."""
SLURS = {"ethnic_slur", "obscenity", "disparagement"}
OFFENSIVE = re.compile(r"\b(obscene|vulgar|offensive)\b[^;\"]{0,12}\b(terms?|names?|slang)\b|ethnic slur")
OFFENSIVE_TOO = "arse bastard bitch boob goddamn homo midget milf negro porn pussy retard sissy slut tit wanker whore"
"""Words that are in neither list nor marked."""
INOFFENSIVE = ("taco",)  # WordNet lists the slur before the food.


@dataclass
class Scowl:
    """Sizes of the smallest lists in which words, and capitalised ones, stand, and words that are profane."""

    words: dict[str, int] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    profane: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, folder: Path) -> Scowl:
        """From SCOWL's unpacked source."""
        found = cls()
        for path in (folder / "final").iterdir():
            kind, _, size = path.name.rpartition(".")
            region, _, category = kind.partition("-")
            into = {"words": found.words, "upper": found.names, "proper-names": found.names}.get(category)
            if region in ("english", "american") and into is not None:
                for word in path.read_text("latin-1").split():
                    into[word] = min(into.get(word, int(size)), int(size))
        for pattern in ("profane.*", "offensive.*"):
            for path in (folder / "misc").glob(pattern):
                found.profane |= set(path.read_text("latin-1").split())
        return found


def rows(wordnet: WordNet, scowl: Scowl, merges: Mapping[str, int]) -> list[tuple[str, str]]:
    """(theme, word) of every word, commonest first.

    Args:
        merges: the place of each token that is a whole word in open_clip's vocabulary.

    The order is by the sum of a word's places in two: that of the merges, and that of SCOWL's sizes, then of the
    counts of WordNet. Merges alone would put the ends of words first that happen to be one: "ill", "ally", "ding".
    """
    forms: dict[str, list[str]] = defaultdict(list)
    for form in merges:
        if re.fullmatch("[a-z]{3,}", form) and scowl.words.get(form, 99) <= LARGEST and form not in CLOSED:
            lemma = lemma_of(form, wordnet, scowl)
            if lemma:
                forms[lemma].append(form)
    chosen = {lemma: shown(lemma, found, wordnet, scowl, merges) for lemma, found in forms.items()}
    lemmas = [
        lemma
        for lemma, word in chosen.items()
        if is_kept(lemma, wordnet, scowl) and not (word == lemma and is_name(lemma, wordnet, scowl))
    ]
    counts = {lemma: wordnet.tagged(lemma).total() for lemma in lemmas}
    first = {lemma: min(merges[form] for form in forms[lemma]) for lemma in lemmas}
    by_merge = sorted(lemmas, key=first.__getitem__)
    by_size = sorted(lemmas, key=lambda lemma: (scowl.words[lemma], -counts[lemma], first[lemma]))
    places = Counter({lemma: place for place, lemma in enumerate(by_merge)})
    places.update({lemma: place for place, lemma in enumerate(by_size)})
    ordered = sorted(lemmas, key=lambda lemma: (places[lemma], first[lemma]))
    found: dict[str, str] = {}
    for lemma in ordered:
        found.setdefault(chosen[lemma], lemma)
    return [(theme(word, lemma, wordnet), word) for word, lemma in found.items()]


def lemma_of(form: str, wordnet: WordNet, scowl: Scowl) -> str | None:
    """The word of which it is a form, itself if it stands for itself, or None if WordNet has none of them."""
    bases = {(base, part) for base, part in wordnet.bases(form) if scowl.words.get(base, 99) <= LARGEST}
    if form in wordnet.lower and (not bases or stands_alone(form, bases, wordnet)):
        return form
    return max(sorted({base for base, _ in bases}), key=lambda base: wordnet.tagged(base).total(), default=None)


def stands_alone(form: str, bases: set[tuple[str, str]], wordnet: WordNet) -> bool:
    """Whether a form of another word is a word too: a building, a lighter, clothes, shorts; but not better or cows."""
    if form in wordnet.exceptions["a"] or form in PLURALS:
        return form in PLURALS
    count = wordnet.tagged(form).total()
    is_common = count >= 3 and count >= OWN * max(wordnet.tagged(base).total() for base, _ in bases)
    nouns = [base for base, part in bases if part == "n"]
    if nouns:
        return is_common and not any(map(wordnet.is_mainly_noun, nouns))
    is_agent = {part for _, part in bases} == {"a"}
    is_thing = wordnet.first_noun(form) in THINGS and form not in wordnet.exceptions["v"]
    return is_common or is_agent or is_thing


def is_kept(lemma: str, wordnet: WordNet, scowl: Scowl) -> bool:
    """Whether a lemma is none of: too short, rare, of a closed class, an adverb, or offensive."""
    tagged = wordnet.tagged(lemma)
    size = scowl.words.get(lemma, 99)
    is_thing = wordnet.first_noun(lemma) in THINGS
    is_long = len(lemma) > 4 or (len(lemma) == 4 and is_thing)
    largest = LARGEST if is_long or tagged.total() >= 3 else LARGEST_SHORT
    if not re.fullmatch("[a-z]{3,}", lemma) or size > largest or lemma in CLOSED:
        return False
    is_adverb = wordnet.parts(lemma) == {"r"} or 2 * tagged["r"] > tagged.total()
    return not (is_adverb or is_offensive(lemma, wordnet, scowl))


def is_name(lemma: str, wordnet: WordNet, scowl: Scowl) -> bool:
    """Whether it is commoner as a name: hardly tagged in lower case, and SCOWL has it capitalised at the same size."""
    size, name_size = scowl.words[lemma], scowl.names.get(lemma.capitalize(), 99)
    count = wordnet.tagged(lemma).total()
    if name_size > LARGEST_NAME or count >= 3 or (wordnet.first_noun(lemma) in NATURE and size <= 35):
        return False
    return size >= name_size or (count == 0 and size > 20)


def is_offensive(lemma: str, wordnet: WordNet, scowl: Scowl) -> bool:
    """Whether SCOWL lists it as profane or offensive, or its first meaning is one that WordNet marks so."""
    if lemma in INOFFENSIVE:
        return False
    firsts = [sense.synset for sense in wordnet.senses[lemma] if sense.place == 1]
    return (
        lemma in scowl.profane
        or lemma in OFFENSIVE_TOO.split()
        or any(is_marked(lemma, each, wordnet) for each in firsts)
    )


def is_marked(word: str, key: tuple[str, str], wordnet: WordNet) -> bool:
    """Whether WordNet says that the word in this meaning is a slur, an obscenity or a disparagement."""
    synset = wordnet.synsets[key]
    for symbol, to, source in synset.pointers:
        is_of_word = source == 0 or synset.words[source - 1].lower() == word
        if symbol == ";u" and is_of_word and SLURS & set(wordnet.synsets[to].words):
            return True
    return bool(OFFENSIVE.search(synset.gloss.split('"')[0]))


def shown(lemma: str, forms: Sequence[str], wordnet: WordNet, scowl: Scowl, merges: Mapping[str, int]) -> str:
    """The form to show: the lemma, or its plural as a noun if that is the commoner token ("shoes", "children")."""
    nouns = [form for form in forms if (lemma, "n") in wordnet.bases(form)]
    plurals = [form for form in nouns if scowl.names.get(form.capitalize(), 99) > LARGEST_NAME]
    place = merges.get(lemma, max(merges.values()) + 1) if wordnet.is_mainly_noun(lemma) else 0
    return min((form for form in plurals if merges[form] < place), key=merges.__getitem__, default=lemma)


def theme(word: str, lemma: str, wordnet: WordNet) -> str:
    """The theme of which the word, its lemma and whatever else it may be a form of all are for certain, or blank."""
    bases = {base for base, _ in wordnet.bases(word) | wordnet.bases(lemma)}
    themes = {certain_theme(each, wordnet) for each in {word, lemma, *bases} if each in wordnet.senses}
    return themes.pop() if len(themes) == 1 else ""


def certain_theme(word: str, wordnet: WordNet) -> str:
    """What all its meanings are of, or nine in ten of its tagged occurrences; else blank.

    A colour is one where that is the first meaning of the adjective, which is commoner than the noun: with "red" for
    what is violent counted, no colour would be certain.
    """
    counts: Counter[str] = Counter()
    for sense in wordnet.senses[word]:
        counts[theme_of(sense.synset, wordnet)] += sense.count
    (leading, count), total = counts.most_common(1)[0], counts.total()
    is_certain = len(counts) == 1 or (total >= FEW and count >= CERTAIN * total)
    return leading if is_certain else "colour" if is_colour(word, wordnet) else ""


def is_colour(lemma: str, wordnet: WordNet) -> bool:
    """Whether the first meaning of the adjective is a colour, one of the noun too, and the adjective is commoner."""
    tagged = wordnet.tagged(lemma)
    found = {(sense.part, sense.place) for sense in wordnet.senses[lemma] if is_of_colour(sense.synset, wordnet)}
    return ("a", 1) in found and any(part == "n" for part, _ in found) and tagged["a"] > tagged["n"]


def is_of_colour(key: tuple[str, str], wordnet: WordNet) -> bool:
    """Whether one meaning is a colour: below it among nouns, or derived from such a noun."""
    pointers = wordnet.synsets[key].pointers
    nouns = [key] if key[0] == "n" else [to for symbol, to, _ in pointers if symbol == "+" and to[0] == "n"]
    return any(theme_of(noun, wordnet) == "colour" for noun in nouns)


def theme_of(key: tuple[str, str], wordnet: WordNet) -> str:
    """What one meaning is of, or blank."""
    synset = wordnet.synsets[key]
    if synset.file >= 29:
        return VERB_THEMES.split(",")[synset.file - 29] if synset.file <= 43 else ""
    if synset.file >= 3:
        general = list(wordnet.above(key))
        refined = [name for root, name in ROOTS.items() for each in general if each.words[: len(root)] == root]
        name = NOUN_THEMES.split(",")[synset.file - 3]
        is_one = any(each.words[0] == name for each in general) or name not in ("animal", "person", "plant")
        return refined[0] if refined else name if is_one else ""
    if synset.file == 0:
        heads = [wordnet.synsets[to] for symbol, to, _ in synset.pointers if symbol == "&" and synset.kind == "s"]
        return next((HEADS[each.words[0]] for each in heads or [synset] if each.words[0] in HEADS), "")
    return ""


def main(wordnet: str, scowl: str) -> None:
    """Writes the file."""
    from open_clip.tokenizer import SimpleTokenizer

    tokens = SimpleTokenizer().encoder.items()
    merges = {token.removesuffix("</w>"): place for token, place in tokens if token.endswith("</w>")}
    found = rows(WordNet(Path(wordnet)), Scowl.read(Path(scowl)), merges)
    if len(found) < N_WORDS:
        raise ValueError(f"Only {len(found):,} words were found; {N_WORDS:,} are wanted.")
    FILE.write_text("".join(f"{about}\t{word}\n" for about, word in found[:N_WORDS]), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
