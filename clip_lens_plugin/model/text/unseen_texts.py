"""Texts that a text tower never sees whole: cut at its length, or lost to the tokenizer's cleaning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from clip_lens_plugin.adapters.text.tokenizers import uncut_length
from clip_lens_plugin.warned import warn

ENDS = 3
"""A text that fills the length has other ids at its end than the empty one: an end of text, and one token of its own
before what some tokenizers put behind it."""


@dataclass
class UnseenTexts:
    """Positions of texts, among those of one call, that are cut or leave no token."""

    cut: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)

    def add(self, other: UnseenTexts, start: int) -> None:
        """Adds those of a part of the texts that begins at position ``start``."""
        self.cut += [start + position for position in other.cut]
        self.lost += [start + position for position in other.lost]

    def warn(self, texts: Sequence[str]) -> None:
        """One Python warning for each of the two, with how many there are and the first."""
        if self.cut:
            warn(
                f"{len(self.cut)} of {len(texts)} texts are longer than the text tower reads, so their ends are cut "
                f"off; the first is {_shortened(texts[self.cut[0]])}. Shorten them."
            )
        if self.lost:
            warn(
                f"{len(self.lost)} of {len(texts)} texts leave nothing after the tokenizer's cleaning, so they are all "
                f"embedded as the empty text; the first is {_shortened(texts[self.lost[0]])}. Leave them out."
            )


def unseen(tokenizer: Callable[[list[str]], Tensor], texts: Sequence[str], ids: Int[Tensor, "t n"]) -> UnseenTexts:
    """Which of the texts are cut, and which leave no token.

    Only a text whose ids fill the length can be cut. Then its own length decides; where the tokenizer does not tell
    that, whether its last letter makes no difference.

    Args:
        tokenizer: made the ids.
        texts: one or more.
        ids: of each.
    """
    empty = _ids(tokenizer, "")
    if empty is not None and (empty.shape != ids.shape[1:] or len(empty) < ENDS):
        empty = None
    found = UnseenTexts()
    for position, text in enumerate(texts):
        own = ids[position]
        if empty is not None and torch.equal(own, empty):
            if text:
                found.lost.append(position)
        elif (empty is None or not torch.equal(own[-ENDS:], empty[-ENDS:])) and _is_cut(tokenizer, text, own):
            found.cut.append(position)
    return found


def _is_cut(tokenizer: Any, text: str, ids: Int[Tensor, " n"]) -> bool:
    known = uncut_length(tokenizer, text)
    if known is not None:
        needed, kept = known
        return needed > kept
    # A full stop may be lost to cleaning; a letter or number is not.
    last = max((place for place, letter in enumerate(text) if letter.isalnum()), default=-1)
    shortened = _ids(tokenizer, text[:last]) if last > 0 else None
    return shortened is not None and shortened.shape == ids.shape and torch.equal(shortened, ids)


def _ids(tokenizer: Any, text: str) -> Int[Tensor, " n"] | None:
    """None where the tokenizer refuses the text: one of its own kind may know some words alone."""
    try:
        return tokenizer([text])[0]
    except Exception:
        return None


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}..."
