"""What tests of formulas share: random numbers, and a plain loop over indices in float64 to compare with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import product
from types import ModuleType

import numpy as np
import torch


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random float64, other numbers for each shape and seed."""
    generator = torch.Generator().manual_seed(1000 * seed + sum(31**i * n for i, n in enumerate(shape)))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def check(found: torch.Tensor, shape: tuple[int, ...], value: Callable[..., float]) -> None:
    """That each entry is the value that the formula gives for its indices."""
    expected = np.empty(shape)
    for index in product(*map(range, shape)):
        expected[index] = value(*index)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


def formulas_of(equations: ModuleType) -> list[str]:
    """Names of the public functions that a module of formulas defines itself."""
    defined = [name for name, each in inspect.getmembers(equations, inspect.isfunction) if name[0] != "_"]
    return [name for name in defined if getattr(equations, name).__module__ == equations.__name__]
