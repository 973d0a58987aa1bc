"""How a text tower's last stream becomes one vector: the token at a position that is each text's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.layers.pooling.pooling import SCALE, LinearPooling

Own = TypeVar("Own", bound="TokenPooling")
POSITION = "hook_position"


@dataclass(frozen=True)
class TokenPooling(LinearPooling):
    """LayerNorm, then one token of each text: ω is 1/σ there and zero elsewhere.

    Args:
        name: which token: "argmax" (of the greatest id), "eos", "last", "first" or "class_token".
        position: of each text's token, of one run; None before :meth:`bound`.
    """

    name: str
    position: Int[Tensor, " b"] | None = None

    reads = (SCALE, POSITION)
    reads_class_token_alone = False

    @property
    def positions(self) -> slice:
        """All: which of them is read is known of a run alone."""
        return slice(0, None)

    def bound(self: Own, read: Mapping[str, Tensor]) -> Own:
        """That of a run, by the positions that its cache holds."""
        return replace(self, position=read[POSITION])

    def after_norm(self, normalized: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        return self.rows(normalized)[:, 0]

    def rows(self, x: Tensor, dim: int = 1) -> Tensor:
        """The pooled token's row along ``dim``, kept as an axis of length 1: a copy."""
        assert self.position is not None
        index = self.position.to(x.device).reshape(-1, *(1 for _ in x.shape[1:]))
        return x.take_along_dim(index.expand(*(1 if i == dim else n for i, n in enumerate(x.shape))), dim)

    def n_rows(self, n_ctx: int) -> int:
        return 1

    def kept(self, name: str, activation: Tensor) -> Tensor:
        return self.rows(activation) if name == SCALE else activation

    def omega(self, read: Mapping[str, Tensor]) -> Float[Tensor, "b 1 1"]:
        return read[SCALE].reciprocal()


def greatest(tokens: Int[Tensor, "b n"]) -> Int[Tensor, " b"]:
    """The first position of the greatest id, which in OpenAI's vocabulary is the end of the text."""
    return tokens.argmax(-1)


@dataclass(frozen=True)
class FirstOf:
    """The first position of an id; 0 where it is not there."""

    token: int

    def __call__(self, tokens: Int[Tensor, "b n"]) -> Int[Tensor, " b"]:
        return (tokens == self.token).int().argmax(-1)


@dataclass(frozen=True)
class Always:
    """The same position for all texts."""

    position: int

    def __call__(self, tokens: Int[Tensor, "b n"]) -> Int[Tensor, " b"]:
        return torch.full((len(tokens),), self.position, device=tokens.device)
