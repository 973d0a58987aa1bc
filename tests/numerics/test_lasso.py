from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from sklearn.linear_model import Lasso

from clip_lens_plugin.numerics import lasso
from clip_lens_plugin.numerics.lasso import Codes, NotSolvedError, sparse_codes


def unit(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def planted(n_atoms: int = 400, width: int = 48, n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors that are sums of a few of strongly correlated, centred atoms, and the atoms."""
    g = torch.Generator().manual_seed(0)
    cone = 2 * torch.randn(1, width, generator=g) + torch.randn(n_atoms, 8, generator=g) @ torch.randn(
        8, width, generator=g
    )
    atoms = unit((cone + torch.randn(n_atoms, width, generator=g)).double())
    atoms = unit(atoms - atoms.mean(0))
    weights = torch.zeros(n, n_atoms, dtype=torch.float64)
    for row in weights:
        row[torch.randperm(n_atoms, generator=g)[:5]] = torch.rand(5, generator=g).double() + 0.2
    return unit(weights @ atoms + 0.02 * torch.randn(n, width, generator=g).double()), atoms


def dense(codes: Codes, n_atoms: int) -> torch.Tensor:
    return torch.zeros(len(codes.weights), n_atoms, dtype=torch.float64).scatter_add(1, codes.indices, codes.weights)


def of_sklearn(vectors: torch.Tensor, atoms: torch.Tensor, penalty: float, both_signs: bool) -> torch.Tensor:
    model = Lasso(
        alpha=penalty / vectors.shape[1], positive=not both_signs, fit_intercept=False, tol=1e-13, max_iter=10**6
    )
    return torch.from_numpy(np.stack([model.fit(atoms.numpy().T, each).coef_ for each in vectors.numpy()]))


def objective(weights: torch.Tensor, vectors: torch.Tensor, atoms: torch.Tensor, penalty: float) -> torch.Tensor:
    return (weights @ atoms - vectors).square().sum(1) / 2 + penalty * weights.abs().sum(1)


@pytest.mark.parametrize("both_signs", [False, True])
@pytest.mark.parametrize("penalty", [0.05, 0.15, 0.25])
def test_it_is_the_lasso_of_scikit_learn(penalty: float, both_signs: bool) -> None:
    vectors, atoms = planted()
    if both_signs:
        vectors[::2] *= -1
    found = sparse_codes(vectors, atoms, penalty, both_signs)
    ours, theirs = dense(found, len(atoms)), of_sklearn(vectors, atoms, penalty, both_signs)
    assert float((objective(ours, vectors, atoms, penalty) - objective(theirs, vectors, atoms, penalty)).max()) < 1e-9
    assert bool(((ours != 0) == (theirs.abs() > 1e-9)).all())
    assert torch.allclose(ours, theirs, atol=1e-7)
    assert bool((ours < 0).any()) == both_signs
    assert float((found.objective - objective(ours, vectors, atoms, penalty)).abs().max()) < 1e-13
    assert found.counts.tolist() == (ours != 0).sum(1).tolist()
    assert float((found.residual - (vectors - ours @ atoms)).abs().max()) < 1e-13


def test_the_conditions_of_the_minimum_hold_and_are_measured() -> None:
    vectors, atoms = planted()
    found = sparse_codes(vectors, atoms, 0.1)
    weights = dense(found, len(atoms))
    beyond = (vectors - weights @ atoms) @ atoms.T - 0.1
    worst = torch.where(weights > 0, beyond.abs(), beyond.clamp(min=0)).amax(1)
    assert float(worst.max()) < 1e-9
    assert float((found.violation - worst).abs().max()) < 1e-13


def test_batches_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, atoms = planted()
    whole = dense(sparse_codes(vectors, atoms, 0.1), len(atoms))
    monkeypatch.setattr(lasso, "NUMBERS", 5 * len(atoms))
    pieces = dense(sparse_codes(vectors, atoms, 0.1), len(atoms))
    assert torch.allclose(whole, pieces, atol=1e-12)
    narrow = sparse_codes(vectors.float(), atoms.float(), 0.1)
    assert narrow.weights.dtype == torch.float64
    assert torch.allclose(dense(narrow, len(atoms)), whole, atol=1e-5)


def test_atoms_that_depend_on_each_other_are_solved_for() -> None:
    """Twins, and an atom between two others: the weights are not unique, the minimum is."""
    vectors, atoms = planted(60, 12)
    between = unit(atoms[:20] + atoms[20:40])
    atoms = torch.cat([atoms, atoms[:30], between])
    vectors = torch.cat([vectors, unit(atoms[:6] + atoms[20:26] + 0.1 * atoms[40:46])])
    for penalty in (0.01, 0.1):
        found = sparse_codes(vectors, atoms, penalty)
        theirs = of_sklearn(vectors, atoms, penalty, both_signs=False)
        assert float((found.objective - objective(theirs, vectors, atoms, penalty)).abs().max()) < 1e-9
        assert float(found.violation.max()) < 1e-9


def test_more_atoms_than_dimensions_are_never_needed() -> None:
    vectors, atoms = planted(400, 16)
    found = sparse_codes(vectors, atoms, 1e-4)
    assert int(found.counts.max()) <= 16
    assert float(found.violation.max()) < 1e-9


def test_a_number_of_atoms_is_matching_pursuit() -> None:
    vectors, atoms = planted()
    found = sparse_codes(vectors, atoms, 0.0, most=4)
    assert found.counts.tolist() == [4] * len(vectors)
    for row, vector in enumerate(vectors.numpy()):
        chosen = atoms[found.indices[row]].numpy()
        assert np.abs(nnls(chosen.T, vector)[0] - found.weights[row].numpy()).max() < 1e-10
    first = sparse_codes(vectors, atoms, 0.0, most=1)
    assert first.indices[:, 0].tolist() == (vectors @ atoms.T).argmax(1).tolist()
    picked: list[int] = []
    left = vectors[0].numpy()
    for _ in range(3):  # Plainly, for one vector of which no atom is left again.
        picked.append(int((atoms.numpy() @ left).argmax()))
        weights = nnls(atoms.numpy()[picked].T, vectors[0].numpy())[0]
        left = vectors[0].numpy() - weights @ atoms.numpy()[picked]
    assert bool((weights > 0).all())
    assert set(sparse_codes(vectors[:1], atoms, 0.0, most=3).indices[0].tolist()) == set(picked)


def test_nothing_is_found_where_nothing_is_worth_its_penalty() -> None:
    vectors, atoms = planted()
    found = sparse_codes(vectors, atoms, 1.1)
    assert found.counts.tolist() == [0] * len(vectors)
    assert torch.equal(found.residual, vectors)
    assert float((found.objective - 0.5).abs().max()) < 1e-12
    only_against = sparse_codes(-atoms[:1], atoms[:1], 0.0, most=3)
    assert only_against.counts.tolist() == [0]


def test_what_is_not_solved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, atoms = planted()
    monkeypatch.setattr(lasso, "MOST_ROUNDS", 1)
    monkeypatch.setattr(lasso, "NEW_ATOMS", 1)
    with pytest.raises(NotSolvedError, match=r"vector 0 .* violated by .*greater penalty"):
        sparse_codes(vectors, atoms, 0.05)
