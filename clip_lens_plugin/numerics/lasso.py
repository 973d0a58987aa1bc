"""Vectors as sums of few atoms, exactly and many vectors at once: the lasso with weights of one sign or of both.

    minimum over w of  ½ ‖w C − z‖² + λ Σ_j |w_j|,  with w ≥ 0 unless both signs are allowed

With r = z − w C it is reached where ``c_j · r = λ`` for each atom that has a weight and ``c_j · r ≤ λ`` for the others
(Karush, Kuhn and Tucker; KKT). Each round takes up the atoms that are furthest beyond λ, found by one product with all
of them, and then solves for the atoms that a vector uses alone, as Lawson and Hanson do for least squares ("Solving
Least Squares Problems", 1974, chapter 23). The minimum on these falls with each round, so that it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

VIOLATION = 1e-6
"""Greatest violation of the conditions of the minimum in a result."""

COARSE, FINE = 1e-5, 1e-10
"""How far beyond λ an atom is taken up, by products in float32 first and in float64 then."""

MOST_ROUNDS = 1000

NEW_ATOMS = 8
"""That a vector takes up in a round at most: a product with all atoms costs more than a solve with a few."""

NUMBERS = 2**22
"""In the largest tensors of a batch, which holds as many vectors as that allows."""

RIDGE = 1e-12
"""Added to the squared length of the atoms in use, so that those that depend on each other can be solved for."""


class NotSolvedError(ValueError):
    """The minimum was not found as exactly as is promised."""


@dataclass(frozen=True)
class Codes:
    """Which atoms each vector is the sum of, the greatest weight first; rows are filled up with weights of 0.

    Attributes:
        indices: of atoms; 0 where the weight is 0.
        weights: float64.
        objective: the minimum.
        violation: the greatest violation of its conditions; where the number of atoms was given, on those alone.
        residual: of each vector, z − w C.
    """

    indices: Int[Tensor, "b m"]
    weights: Float[Tensor, "b m"]
    objective: Float[Tensor, " b"]
    violation: Float[Tensor, " b"]
    residual: Float[Tensor, "b e"]

    @property
    def counts(self) -> Int[Tensor, " b"]:
        """How many atoms each vector has."""
        return (self.weights != 0).sum(1)


def sparse_codes(
    vectors: Float[Tensor, "b e"],
    atoms: Float[Tensor, "v e"],
    penalty: float,
    both_signs: bool = False,
    most: int | None = None,
) -> Codes:
    """The weights of each vector at the minimum, solved for in float64.

    Args:
        vectors: of unit length, or about.
        atoms: likewise.
        penalty: λ, more than 0; or 0 with ``most``.
        both_signs: whether weights may be negative.
        most: end at this many atoms, which are taken up one by one, each the one that the rest lies along most; their
            weights are those of the minimum on them. Without a penalty this is orthogonal matching pursuit with
            non-negative weights. An atom that the others make needless is left again.

    Raises:
        NotSolvedError: if the conditions of the minimum are violated by more than :data:`VIOLATION`.
    """
    exact = atoms.double()
    problem = _Problem(atoms.float(), exact, penalty, both_signs, most)
    rows = max(1, NUMBERS // max(exact.shape))
    parts = [problem.solved(part) for part in vectors.to(exact).split(rows)]
    width = max((part.indices.shape[1] for part in parts), default=0)
    joined = Codes(
        torch.cat([_widened(part.indices, width) for part in parts]),
        torch.cat([_widened(part.weights, width) for part in parts]),
        torch.cat([part.objective for part in parts]),
        torch.cat([part.violation for part in parts]),
        torch.cat([part.residual for part in parts]),
    )
    _refuse_unsolved(joined.violation)
    return joined


def _refuse_unsolved(violation: Float[Tensor, " b"]) -> None:
    wrong = ~(violation <= VIOLATION)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise NotSolvedError(
            f"The sparse code of vector {row} was not found to {VIOLATION:.0e}: the conditions of its minimum are "
            f"violated by {float(violation[row]):.1e}. Give a greater penalty, or leave out texts that are nearly the "
            f"same."
        )


@dataclass
class _Found:
    """The atoms of a batch so far, with what is left of its vectors.

    Attributes:
        indices, signs, weights: of the atoms; signs are 1 or -1, and weights those of the signed atoms, not negative.
    """

    vectors: Float[Tensor, "b e"]
    residual: Float[Tensor, "b e"]
    indices: Int[Tensor, "b m"]
    signs: Float[Tensor, "b m"]
    weights: Float[Tensor, "b m"]

    @property
    def counts(self) -> Int[Tensor, " b"]:
        return (self.weights > 0).sum(1)

    def write(self, rows: Int[Tensor, " s"], indices: Tensor, signs: Tensor, weights: Tensor) -> None:
        """Puts atoms in the place of those of some rows, and leaves out the columns that no row needs any more."""
        width = max(self.weights.shape[1], weights.shape[1])
        pairs = (self.weights, weights), (self.indices, indices), (self.signs, signs)
        replaced = [_widened(old, width).index_copy(0, rows, _widened(new, width)) for old, new in pairs]
        order = replaced[0].argsort(dim=1, descending=True)[:, : int((replaced[0] > 0).sum(1).max())]
        self.weights, self.indices, self.signs = (each.gather(1, order) for each in replaced)


@dataclass(frozen=True)
class _Problem:
    """The atoms in float32 and in float64, and what is asked of the weights."""

    coarse: Float[Tensor, "v e"]
    exact: Float[Tensor, "v e"]
    penalty: float
    both_signs: bool
    most: int | None

    def solved(self, vectors: Float[Tensor, "b e"]) -> Codes:
        """The codes of one batch."""
        none = vectors.new_zeros(len(vectors), 0)
        found = _Found(vectors, vectors.clone(), none.long(), none, none)
        beyond = self._rounds(found, self.coarse, COARSE)
        beyond = self._rounds(found, self.exact, FINE)
        within = self._violation_within(found)
        violation = within if self.most is not None else torch.maximum(within, beyond)
        objective = found.residual.square().sum(1) / 2 + self.penalty * found.weights.sum(1)
        indices = torch.where(found.weights > 0, found.indices, 0)
        return Codes(indices, found.signs * found.weights, objective, violation, found.residual)

    def _rounds(self, found: _Found, atoms: Float[Tensor, "v e"], tolerance: float) -> Float[Tensor, " b"]:
        """Takes up atoms until none is beyond λ by more than the tolerance; by how much the furthest is in the end."""
        new = min(1 if self.most is not None else NEW_ATOMS, len(atoms))
        rows = torch.arange(len(found.vectors), device=atoms.device)
        beyond = found.residual.new_zeros(len(rows))
        for _ in range(MOST_ROUNDS):
            if self.most is not None:
                rows = rows[found.counts[rows] < self.most]
            if not len(rows):
                break
            products = found.residual[rows].to(atoms.dtype) @ atoms.T
            sizes, indices = (products.abs() if self.both_signs else products).topk(new, dim=1)
            beyond[rows] = (sizes[:, 0].double() - self.penalty).clamp(min=0)
            taken = sizes > self.penalty + tolerance
            signs = products.gather(1, indices).sign().double()
            going = taken[:, 0]
            rows, indices, signs, taken = rows[going], indices[going], signs[going], taken[going]
            for part in self._pieces(len(rows), found.weights.shape[1] + new):
                self._take_up(found, rows[part], indices[part], signs[part], taken[part])
        return beyond

    def _pieces(self, n: int, width: int) -> Iterator[slice]:
        """Rows whose atoms are held in memory together."""
        step = max(1, NUMBERS // (width * max(width, self.exact.shape[1])))
        return (slice(start, start + step) for start in range(0, n, step))

    def _take_up(
        self,
        found: _Found,
        rows: Int[Tensor, " s"],
        new: Int[Tensor, "s n"],
        new_signs: Float[Tensor, "s n"],
        taken: Bool[Tensor, "s n"],
    ) -> None:
        """Adds atoms to those of some rows, and solves for their weights."""
        weights = torch.cat([found.weights[rows], torch.zeros_like(new_signs)], 1)
        indices = torch.cat([found.indices[rows], new], 1)
        signs = torch.cat([found.signs[rows], new_signs], 1)
        used = torch.cat([found.weights[rows] > 0, taken], 1)
        order = used.byte().argsort(dim=1, descending=True)[:, : int(used.sum(1).max())]
        weights, indices, signs, used = (each.gather(1, order) for each in (weights, indices, signs, used))
        atoms, vectors = self.exact[indices] * signs[..., None], found.vectors[rows]
        target = (atoms @ vectors[..., None])[..., 0] - self.penalty
        weights = minimum_on(atoms @ atoms.mT, target, weights, used)
        found.residual[rows] = vectors - (weights[:, None] @ atoms)[:, 0]
        found.write(rows, indices, signs, weights)

    def _violation_within(self, found: _Found) -> Float[Tensor, " b"]:
        """How far the atoms with a weight are from λ."""
        worst = found.residual.new_zeros(len(found.vectors))
        for part in self._pieces(len(worst), max(1, found.weights.shape[1])):
            atoms = self.exact[found.indices[part]] * found.signs[part][..., None]
            off = (atoms @ found.residual[part][..., None])[..., 0] - self.penalty
            worst[part] = pad(torch.where(found.weights[part] > 0, off.abs(), 0.0), (0, 1)).amax(1)
        return worst


def minimum_on(
    gram: Float[Tensor, "b m m"],
    target: Float[Tensor, "b m"],
    weights: Float[Tensor, "b m"],
    used: Bool[Tensor, "b m"],
) -> Float[Tensor, "b m"]:
    """Non-negative weights with less of ``½ wᵀ G w − w · t``, and none less on those that are not 0.

    From the given weights straight to the minimum on the used atoms, and where that is beyond 0 no further than the
    first weight that becomes 0, whose atom is left out; until none is beyond. If the given weights are the minimum on
    all but some atoms that have ``t − G w > 0``, the value falls.

    Args:
        gram: dot products of the atoms, float64.
        target: t.
        weights: to begin with, not negative, and 0 on what is not used.
        used: atoms that may have a weight.
    """
    weights, used = weights.clone(), used.clone()
    rows = torch.arange(len(gram), device=gram.device)
    while len(rows):
        own, start = used[rows], weights[rows]
        form = torch.where(own[:, :, None] & own[:, None], gram[rows], 0.0)
        diagonal = form.diagonal(dim1=1, dim2=2)
        factor, _ = torch.linalg.cholesky_ex(form + torch.diag_embed(torch.where(own, RIDGE * diagonal, 1.0)))
        wanted = torch.where(own, target[rows], 0.0)[..., None]
        end = torch.cholesky_solve(wanted, factor)
        # Once more for what is left takes away what the ridge adds.
        end = (end + torch.cholesky_solve(wanted - form @ end, factor))[..., 0]
        beyond = own & ~(end > 0)
        share = torch.where(beyond, start / (start - end).clamp(min=torch.finfo(end.dtype).tiny), torch.inf)
        first = share.amin(1, keepdim=True)
        dropped = beyond & (share <= first)
        moved = start + first.clamp(max=1.0) * (end - start)
        weights[rows] = torch.where(own & ~dropped, moved, 0.0)
        used[rows] = own & ~dropped
        rows = rows[beyond.any(1)]
    return weights


def _widened(each: Tensor, width: int) -> Tensor:
    return pad(each, (0, width - each.shape[1]))
