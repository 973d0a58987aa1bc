"""Why one text rather than another: what came out, as tables, in words and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch

from clip_lens_plugin.decisions.gaps import GapTable
from clip_lens_plugin.decisions.removal import Head, RemovedHeads
from clip_lens_plugin.describe.spans import TextSpanResult
from clip_lens_plugin.maps.patch_text import PatchTextMap
from clip_lens_plugin.maps.pictured import Pictured
from clip_lens_plugin.plain_text import one_line, signed
from clip_lens_plugin.shown import Shown

MOST_NAMED = 6
"""Heads that are named in a sentence; of more, how many others there are."""

WORDS_NAMED = 3
"""Words that are named in a sentence."""

LONGEST_WORD = 40
"""Characters of a word in a sentence."""

LONGEST_TEXT = 120
"""Characters of a text in a sentence."""


@dataclass(frozen=True, eq=False, repr=False)
class Decision(Shown):
    """The gap between the cosines of one image with two texts, taken apart, and the heads that flip it.

    All numbers are in cosine units. In a notebook it draws itself on its picture; ``decision.save("why.pdf")`` writes
    that, ``decision.save("why.csv")`` the tables.

    Attributes:
        texts: A and B.
        cosines: of the image with each.
        gap: the first less the second, as the model gives it; below zero where B is nearer.
        heads: the gap over heads, MLPs and constants: part, layer, head, gap, and removed (what is taken from the gap
            if the head is replaced in the sum).
        patches: the gap over source patches, all heads summed, and what comes from no head: part, row, column, gap.
        words: the gap over the words of both texts and what comes from no head of the text tower: part, text, word,
            gap; None for a classifier's classes, and where the text tower cannot be taken apart.
        removed: heads without which the answer flips, see :func:`~clip_lens_plugin.decisions.removal.removals`; none if
            no head speaks for the answer.
        ablation: "mean" or "zero".
        replaced_by: what removed heads write, in words.
        n_heads: of the whole model.
        grid_size: rows and columns of patches.
        pictured: the picture, and where the model's input lies on it; None if it is not known.
        spans: texts that describe heads; None if there are none.
    """

    texts: tuple[str, str]
    cosines: tuple[float, float]
    gap: float
    heads: GapTable
    patches: GapTable
    removed: tuple[RemovedHeads, ...]
    ablation: Literal["mean", "zero"]
    replaced_by: str
    n_heads: int
    grid_size: tuple[int, int]
    pictured: Pictured | None = None
    spans: TextSpanResult | None = None
    words: GapTable | None = None

    @property
    def tables(self) -> tuple[GapTable, ...]:
        """Each of them sums to the gap."""
        return (self.heads, self.patches, *([] if self.words is None else [self.words]))

    @property
    def answer(self) -> str:
        """The nearer of the two texts."""
        return self.texts[0 if self.gap > 0 else 1]

    @property
    def other(self) -> str:
        """The one that is less near."""
        return self.texts[1 if self.gap > 0 else 0]

    @property
    def flips(self) -> bool:
        """Whether a run of the model without some heads that speak for the answer gives the other one."""
        return any(each.flips for each in self.removed)

    @property
    def name(self) -> str:
        """The image's name: its file's, or "image 0"."""
        return (self.pictured or Pictured()).name(0)

    def map(self) -> PatchTextMap:
        """The gap over patches as a patch-text map, "A rather than B"."""
        height, width = self.grid_size
        rows = self.patches.rows
        values, beside = torch.zeros(height, width, dtype=torch.float64, device="cpu"), 0.0
        for part, row, column, gap in rows[["part", "row", "column", "gap"]].itertuples(index=False):
            if part == "patch":
                values[int(row), int(column)] = gap
            elif str(part).startswith("class token"):
                beside += gap
        text = f"{self.texts[0]} rather than {self.texts[1]}"
        return PatchTextMap(values[None, None], values.new_tensor([[beside]]), (text,), (self.pictured or Pictured(),))

    def sentences(self) -> tuple[str, ...]:
        """What was found, in words: the answer, what flips it, what chance does, and what is claimed."""
        quoted = [f"“{one_line(text, LONGEST_TEXT)}”" for text in (self.answer, self.other)]
        nearer, farther = sorted(self.cosines, reverse=True)
        return (
            f"{quoted[0]} ({signed(nearer, 4)}) rather than {quoted[1]} ({signed(farther, 4)}): a gap of "
            f"{signed(abs(self.gap), 4)} in the cosine.",
            *self._of_words(),
            *self._of_removal(),
            f"Removed heads write {self.replaced_by}. This is of this image and these two texts alone.",
        )

    def _of_words(self) -> list[str]:
        if self.words is None:
            return []
        sign = 1 if self.gap > 0 else -1
        columns = (self.words.rows[name] for name in ("part", "text", "word", "gap"))
        words = [
            f"“{one_line(str(word), LONGEST_WORD)}” {signed(sign * float(gap), 4)}"
            f" ({'answer' if text == self.answer else 'other'})"
            for part, text, word, gap in zip(*columns, strict=True)
            if part == "word"
        ]
        return [f"These words of the two texts make most of it: {', '.join(words[:WORDS_NAMED])}."]

    def _of_removal(self) -> list[str]:
        if not self.removed:
            return ["No head speaks for the answer, so there is none to remove."]
        sign, found = (1 if self.gap > 0 else -1), []
        for each in self.removed:
            then = f"then nearest to “{one_line(each.nearest, LONGEST_TEXT)}”"
            without = f"without {named(each.heads)} ({len(each.heads)} of {self.n_heads} heads)"
            direct, total = (signed(sign * gap, 4) for gap in (each.direct, each.total))
            if each.found == "table" and each.flips:
                sentence = (
                    f"It flips {without}: {direct} on the table, where nothing else reacts, and {total} in a run of "
                    f"the model, which is {then}."
                )
            elif each.found == "table":
                sentence = (
                    f"On the table it flips to {direct} {without}, but a run of the model without them does not: later "
                    f"layers react, and the gap is {total}."
                )
            elif each.found == "run":
                sentence = f"A run flips to {total} {without} and is {then}; the table says {direct}."
            else:
                sentence = f"Nothing flips it: {without}, the most that were tried, a run still has {total}."
            found.append(f"{sentence} {_chance(each)}")
        if not self.flips and self.removed[-1].found == "table":
            found.append("No further head was removed, so no run flips.")
        return found

    def to_dataframe(self) -> pd.DataFrame:
        """The tables one under the other: table, part, layer, head, row, column, text, word, gap, removed.

        The gaps of one table sum to the gap.
        """
        found = [each.rows.assign(table=each.name) for each in self.tables]
        every = pd.concat(found, ignore_index=True)
        first, last = ["table", "part"], ["gap", "removed"]
        beside = [name for name in every.columns if name not in (*first, *last)]
        return every.reindex(columns=[*first, *beside, *last])

    def __repr__(self) -> str:
        return f"Decision({self.name}: {' '.join(self.sentences())})"


def named(heads: Sequence[Head]) -> str:
    """The heads in a sentence, such as "L3H7 and L5H1"; layer and head count from 0."""
    words = [f"L{layer}H{head}" for layer, head in heads]
    if len(words) > MOST_NAMED:
        words = [*words[:MOST_NAMED], f"{len(words) - MOST_NAMED} more"]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _chance(removed: RemovedHeads) -> str:
    n, size = len(removed.random), len(removed.heads)
    if n == 0:
        return "There are too few other heads to compare with random ones."
    heads = "one random other head" if size == 1 else f"{size} random other heads"
    return f"Chance: without {heads} it flips in {removed.random_flips} of {n} draws."
