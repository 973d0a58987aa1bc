"""The tokens of a text in letters, and which of them make a word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor

from clip_lens_plugin.adapters.text.token_pieces import Pieces, pieces_of

START, END, PADDING, CLASS = "[start]", "[end]", "[padding]", "[class]"


@dataclass(frozen=True)
class Word:
    """Neighbouring tokens that are shown as one.

    Attributes:
        text: its letters; "[start]", "[end]", "[class]" or "[padding]" for what a tokenizer or a tower adds.
        tokens: positions of its first token, and behind its last.
    """

    text: str
    tokens: range

    @property
    def is_added(self) -> bool:
        """Whether it is no part of the text."""
        return self.text in (START, END, PADDING, CLASS)


@dataclass(frozen=True)
class Spelt:
    """A text as a tower sees it.

    Attributes:
        text: as it was given; None if token ids were.
        tokens: each token's letters.
        words: neighbouring tokens together.
    """

    text: str | None
    tokens: tuple[str, ...]
    words: tuple[Word, ...]

    @property
    def name(self) -> str:
        """The text; or its words."""
        return " ".join(word.text for word in self.words if not word.is_added) if self.text is None else self.text


def spelt(
    tokenizer: Callable[..., Any] | None,
    ids: Int[Tensor, "t n"],
    texts: Sequence[str] | None,
    has_class_token: bool,
) -> tuple[Spelt, ...]:
    """Each text's tokens and words.

    Args:
        tokenizer: the model's; of one that is not known, tokens are their ids and each is a word.
        ids: token ids.
        texts: they are of, if known.
        has_class_token: whether the tower adds one after them.
    """
    pieces = pieces_of(tokenizer)
    named = [None] * len(ids) if texts is None else texts
    return tuple(_spelt(pieces, row, text, has_class_token) for row, text in zip(ids.tolist(), named, strict=True))


def _spelt(pieces: Pieces, ids: list[int], text: str | None, has_class_token: bool) -> Spelt:
    kinds = _kinds(pieces, ids)
    words: list[Word] = []
    for position, kind in enumerate(kinds):
        goes_on = words and kind == words[-1].text == PADDING
        if kind is None and position and kinds[position - 1] is None and not pieces.begins(ids, position):
            goes_on = True
        first = words.pop().tokens.start if goes_on else position
        shown = pieces.letters(ids[first : position + 1]) if kind is None else kind
        words.append(Word(shown, range(first, position + 1)))
    tokens = [pieces.letters([each]) if kind is None else kind for each, kind in zip(ids, kinds, strict=True)]
    if has_class_token:
        words.append(Word(CLASS, range(len(ids), len(ids) + 1)))
        tokens.append(CLASS)
    return Spelt(text, tuple(tokens), tuple(words))


def _kinds(pieces: Pieces, ids: list[int]) -> list[str | None]:
    """What a tokenizer added, by position; None for the text's own."""
    kinds: list[str | None] = [None] * len(ids)
    end = len(ids)
    if pieces.start is not None and ids and ids[0] == pieces.start:
        kinds[0] = START
    for position, each in enumerate(ids):
        if pieces.end is not None and each == pieces.end and kinds[position] is None:
            kinds[position], end = END, position + 1
            break
    for position in range(len(ids) - 1, -1, -1):
        if ids[position] != pieces.padding or (kinds[position] is not None and position < end):
            break
        kinds[position] = PADDING
    return kinds
