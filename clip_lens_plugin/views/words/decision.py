"""What a page and a figure of a decision show, chosen and named once: heads, patches, and gaps without heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clip_lens_plugin.decisions.decision import Decision, named
from clip_lens_plugin.decisions.gaps import GapTable
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.views.drawing.numbers import signed
from clip_lens_plugin.views.report.charts import records
from clip_lens_plugin.views.report.summaries import PARTS

N_HEADS, N_PATCHES, N_WORDS = 8, 5, 8
"""Of the largest heads, patches and words, which are shown one by one."""

N_TEXTS = 3
"""Of a head."""

LONGEST = 60
"""Characters of a text."""

NAMES = {**PARTS, "mlp": "MLPs", "attn_bias": "attention biases", "edits": "hooks' edits"}
"""Parts that come from no head, several of a kind together."""

OF_TEXTS = {**NAMES, "embed": "token embedding"}
"""The same of a text tower."""


@dataclass(frozen=True)
class Line:
    """A part of the gap, or several together.

    Attributes:
        name: of the part.
        gap: what it adds.
        alone: whether it is one part, which is drawn beside the others, and not the sum of many.
        mark: number of a patch on the photograph; None for others.
        texts: that describe a head.
        removed_gap: what is taken from the gap if the head writes its mean; None where it would write nothing.
        place: row and column of a patch; None for others.
        flipping: how many heads flip the answer together, of which it is one; 0 if it is none of them.
    """

    name: str
    gap: float
    alone: bool = True
    mark: int | None = None
    texts: str = ""
    removed_gap: float | None = None
    place: tuple[int, int] | None = None
    flipping: int = 0

    @property
    def chip(self) -> str:
        """What is said beside the name of a head that flips the answer."""
        if self.flipping < 2:
            return "flips it" if self.flipping else ""
        return f"of the {self.flipping} that flip it"


@dataclass(frozen=True)
class Block:
    """A table as it is shown: its largest parts, the rest together; the lines sum to the gap.

    Attributes:
        title: of the block.
        lines: in order.
        limit: the largest size of a part that is drawn alone.
        error: how far the sum is from the gap.
    """

    title: str
    lines: tuple[Line, ...]
    limit: float
    error: float

    @classmethod
    def of(
        cls,
        title: str,
        shown: Sequence[Line],
        table: GapTable,
        part: str,
        rest: str,
        names: Mapping[str, str] = NAMES,
    ) -> Block:
        """The block of a table whose largest parts of one kind are shown.

        Args:
            title: of the block.
            shown: lines of the largest.
            table: of all.
            part: the kind.
            rest: what the others of that kind are called; "{}" is their number.
            names: of parts of other kinds.
        """
        sums: dict[str, float] = {}
        for row in records(table.rows):
            sums[row["part"]] = sums.get(row["part"], 0.0) + row["gap"]
        left = sums.pop(part) - sum(line.gap for line in shown)
        others = sum(row["part"] == part for row in records(table.rows)) - len(shown)
        lines = [*shown, *([Line(rest.format(others), left, alone=False)] if others else [])]
        beside = sorted(sums.items(), key=lambda each: abs(each[1]), reverse=True)
        lines += [Line(names.get(name, name), gap, alone=False) for name, gap in beside]
        return cls(title, tuple(lines), max((abs(line.gap) for line in shown), default=0.0) or 1.0, table.error)


def blocks(decision: Decision) -> tuple[Block, ...]:
    """A block for each table."""
    words = [] if decision.words is None else [words_block(decision.words)]
    return (heads_block(decision), patches_block(decision), *words)


def heads_block(decision: Decision) -> Block:
    """The largest heads, with their texts, and what is beside heads."""
    described = {} if decision.spans is None else {(span.layer, span.head): span.texts for span in decision.spans}
    flipping = next((each.heads for each in decision.removed if each.flips), ())
    by_mean = decision.ablation == "mean"
    found = []
    for row in _largest(decision.heads, "head", N_HEADS):
        head = int(row["layer"]), int(row["head"])
        line = Line(
            f"layer {head[0]}, head {head[1]}",
            float(row["gap"]),
            texts="; ".join(described.get(head, [])[:N_TEXTS]),
            removed_gap=float(row["removed"]) if by_mean else None,
            flipping=len(flipping) if head in flipping else 0,
        )
        found.append(line)
    return Block.of("Heads", found, decision.heads, "head", "the other {} heads")


def patches_block(decision: Decision) -> Block:
    """The largest patches, numbered as on the photograph, and what comes from no patch."""
    found = []
    for mark, row in enumerate(_largest(decision.patches, "patch", N_PATCHES), start=1):
        place = int(row["row"]), int(row["column"])
        found.append(Line(f"row {place[0]}, column {place[1]}", float(row["gap"]), mark=mark, place=place))
    return Block.of("Patches, through all heads", found, decision.patches, "patch", "the other {} patches")


def words_block(table: GapTable) -> Block:
    """The largest words, and what comes from no head of the text tower."""
    found = [
        Line(f"{one_line(row['word'], LONGEST)} in “{one_line(row['text'], LONGEST)}”", float(row["gap"]))
        for row in _largest(table, "word", N_WORDS)
    ]
    return Block.of("Words, through the text tower's heads", found, table, "word", "the other {} words", OF_TEXTS)


def _largest(table: GapTable, part: str, n: int) -> list[dict[str, Any]]:
    return [row for row in records(table.rows) if row["part"] == part][:n]


@dataclass(frozen=True)
class Gaps:
    """A line of gaps that are compared: of the model as it is, and without heads.

    Attributes:
        name: what was done.
        gaps: one, or those of random sets.
        is_random: whether they are.
        outcome: the gap, or how many random sets flip.
    """

    name: str
    gaps: tuple[float, ...]
    is_random: bool
    outcome: str


@dataclass(frozen=True)
class Trial:
    """What one set of heads does when it is removed.

    Attributes:
        title: the heads.
        lines: the gap as it is, without them on the table and in a run, and without random sets.
    """

    title: str
    lines: tuple[Gaps, ...]


def trials(decision: Decision) -> tuple[Trial, ...]:
    """One for each set of heads that was removed."""
    found = []
    for each in decision.removed:
        n = len(each.random)
        lines = [
            Gaps("as it is", (decision.gap,), False, signed(decision.gap, 4)),
            Gaps("table, without them", (each.direct,), False, signed(each.direct, 4)),
            Gaps("run, without them", (each.total,), False, signed(each.total, 4)),
        ]
        if n:
            outcome = f"{each.random_flips} of {n} flip"
            lines.append(Gaps(f"run, without {len(each.heads)} random others", each.random, True, outcome))
        found.append(Trial(f"Without {named(each.heads)}", tuple(lines)))
    return tuple(found)
