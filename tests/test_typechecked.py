"""The package's functions are checked when tests call them: types, axes among arguments, and what is returned."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from beartype import beartype
from jaxtyping import Float, TypeCheckError
from torch import Tensor

import clip_lens_plugin
from clip_lens_plugin.decomposition import equations
from tests.support.typechecked import typechecked


def checked(function):
    return typechecked(function, typechecker=beartype)


@checked
def summed(x: Float[Tensor, "b e"], y: Float[Tensor, "b e"], as_they_are: bool = True) -> Float[Tensor, "b e"]:
    return x + y if as_they_are else (x + y).T


@checked
def folded(x: Float[Tensor, "b e"]) -> Float[Tensor, " b"]:
    turned = x.T
    return summed(turned, turned).T.sum(1)  # Its b is this one's e.


@checked
def rows(x: Float[Tensor, "b e"]) -> Iterator[Float[Tensor, " e"]]:
    yield from x


def test_types_and_axes_are_checked():
    x = torch.zeros(2, 3)
    assert summed(x, x).shape == (2, 3)
    assert folded(x).shape == (2,)
    assert len(list(rows(x))) == 2
    with pytest.raises(TypeCheckError, match="yes"):
        summed(x, x, "yes")
    with pytest.raises(TypeCheckError):
        summed(x, x.int())
    with pytest.raises(TypeCheckError, match="y"):
        summed(x, torch.zeros(2, 4))
    with pytest.raises(TypeCheckError):
        rows(x[0])


def test_what_is_returned_is_checked_against_the_arguments():
    square, x = torch.zeros(2, 2), torch.zeros(2, 3)
    assert summed(square, square, False).shape == (2, 2)
    with pytest.raises(TypeCheckError, match="return"):
        summed(x, x, False)


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert summed("a", "b") == "ab"


def test_it_is_done_to_the_package():
    with pytest.raises(TypeCheckError):
        equations.contribution(torch.zeros(2, 3), torch.zeros(4, 5))
    with pytest.raises(TypeCheckError):
        clip_lens_plugin.TextPool.from_strings(3)


def test_every_function_of_the_package_is_checked():
    found = []
    for each in pkgutil.walk_packages(clip_lens_plugin.__path__, "clip_lens_plugin."):
        if "__main__" in each.name or ".cli." in each.name:  # Commands are wrapped once more.
            continue
        module = importlib.import_module(each.name)
        named = {name: value for name, value in vars(module).items() if not name.startswith("__")}  # By torch.compile.
        own = [value for value in named.values() if getattr(value, "__module__", "") == each.name]
        found += [value for value in own if inspect.isfunction(inspect.unwrap(value))]
    unchecked = [each for each in found if not hasattr(each, "__wrapped__")]
    assert len(found) > 500
    assert unchecked == []
