"""Pools that say nothing of the images: texts turned at random, or mirrored with their covariance kept.

Whatever the pool is, the best few of its texts explain something. So the same search is run on pools that differ from
it in nothing but what is tested:

- *turned*: all embeddings times one random orthogonal matrix. All similarities between texts are kept; where they point
  to is not.
- *mirrored*: random signs on the principal axes of the pool. Its mean and covariance are kept, and so is how much the
  pool as a whole has along each direction; which text lies where is not.

The sets of all turns and of all signs are groups, so a pool that the null is true of is one draw among the others.

What takes long is to see a turned pool along the axes of all heads. So each turn serves for four draws: its axes are
dealt into four parts at random, each of which is seen once, and the draws are the sums of the four with the signs of
:data:`SIGNS`. Of mirrored pools any three of the four are independent, and any two of turned ones as good as that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

LEAST_SINGULAR = 1e-10
"""Axes with less than this part of the pool's greatest singular value are rounding."""

SIGNS = ((1, 1, 1, 1), (1, 1, -1, -1), (1, -1, 1, -1), (1, -1, -1, 1))
"""Of the four parts in each of four draws; no two rows agree in more than half of them (a Hadamard matrix)."""

Turn = Float[Tensor, "p p"] | Float[Tensor, " p"]
"""A matrix, or the signs of a diagonal one."""


@dataclass(frozen=True)
class NullPool:
    """Embeddings as ``scores @ basis + mean``, of which draws turn the scores.

    Attributes:
        scores: float32 [t, p].
        basis: orthonormal [p, e].
        mean: [e].
        turn: a random turn of the p axes, from a generator of the CPU.
    """

    scores: Float[Tensor, "t p"]
    basis: Float[Tensor, "p e"]
    mean: Float[Tensor, " e"]
    turn: Callable[[torch.Generator], Turn]

    def draw(self, generator: torch.Generator) -> FourTurns:
        """Four random turns."""
        n_axes = self.scores.shape[1]
        return FourTurns(self.turn(generator), torch.randint(4, (n_axes,), generator=generator, device="cpu"))

    def quarters(self, turns: FourTurns) -> tuple[Float[Tensor, "t q"], ...]:
        """The scores on the axes of each of the four parts."""
        return tuple(self.scores[:, place.to(self.scores.device)] for place in turns.places())

    def seen_by(self, axes: Float[Tensor, "e c"]) -> SeenPool:
        """The pool as directions see it: what of its axes and of its mean lies along them."""
        return SeenPool((self.basis @ axes).float(), (self.mean @ axes).float())


@dataclass(frozen=True)
class SeenPool:
    """The axes of a null pool, and its mean, along c directions of the joint space, float32."""

    along: Float[Tensor, "p c"]
    mean: Float[Tensor, " c"]

    def turned(self, turns: FourTurns, quarters: tuple[Float[Tensor, "t q"], ...]) -> tuple[Float[Tensor, "t c"], ...]:
        """The pool's embeddings along the directions, turned in four ways.

        Args:
            turns: drawn from the pool.
            quarters: of the pool's scores.
        """
        turn = turns.turn.to(self.along)
        along = turn @ self.along if turn.ndim == 2 else turn[:, None] * self.along
        places = (place.to(along.device) for place in turns.places())
        one, two, three, four = (some @ along[place] for some, place in zip(quarters, places, strict=True))
        # The mean is no part of the turn, and the first part has the same sign in all four: see SIGNS.
        one += self.mean
        first_sum, first_gap, second_sum, second_gap = one + two, one.sub_(two), three + four, three.sub_(four)
        return first_sum + second_sum, first_sum.sub_(second_sum), first_gap + second_gap, first_gap.sub_(second_gap)


class FourTurns(NamedTuple):
    """One turn, and the part of each axis, 0 to 3, whose sign is that of :data:`SIGNS` in each of four draws."""

    turn: Turn
    parts: Int[Tensor, " p"]

    def places(self) -> list[Int[Tensor, " q"]]:
        """The axes of each part."""
        return [(self.parts == part).nonzero().flatten() for part in range(4)]

    def each(self) -> list[Float[Tensor, "p p"]]:
        """The matrix of each draw, float64: signs on the axes, then the turn."""
        turn = self.turn if self.turn.ndim == 2 else torch.diag(self.turn)
        signs = torch.tensor(SIGNS, dtype=torch.float64, device="cpu")
        return [signs[draw][self.parts][:, None] * turn for draw in range(4)]


def turned_pool(texts: Float[Tensor, "t e"]) -> NullPool:
    """The texts times a random orthogonal matrix.

    Args:
        texts: unit embeddings, float64.
    """
    width = texts.shape[1]
    same = torch.eye(width).to(texts)
    return NullPool(texts.float(), same, texts.new_zeros(width), lambda generator: random_turn(width, generator))


def mirrored_pool(texts: Float[Tensor, "t e"]) -> NullPool:
    """The texts with random signs on their principal axes, about their mean.

    Args:
        texts: unit embeddings, float64.
    """
    mean = texts.mean(0)
    left, values, axes = torch.linalg.svd(texts - mean, full_matrices=False)
    kept = values > LEAST_SINGULAR * values.amax()
    scores = (left * values)[:, kept]
    return NullPool(scores.float(), axes[kept], mean, lambda generator: random_signs(scores.shape[1], generator))


def random_turn(width: int, generator: torch.Generator) -> Float[Tensor, "p p"]:
    """A matrix of the orthogonal group, all of them equally likely (Haar's measure), float64 on the CPU.

    Q of Gaussian numbers, its columns' signs chosen so that the diagonal of R is positive (Mezzadri, Notices of the AMS
    54, 2007).
    """
    drawn = torch.randn(width, width, generator=generator, dtype=torch.float64, device="cpu")
    q, r = torch.linalg.qr(drawn)
    return q * torch.where(r.diagonal() < 0, -1.0, 1.0)


def random_signs(width: int, generator: torch.Generator) -> Float[Tensor, " p"]:
    """Signs of +1 and −1, equally likely, float64 on the CPU."""
    return 2.0 * torch.randint(2, (width,), generator=generator, device="cpu").double() - 1.0
