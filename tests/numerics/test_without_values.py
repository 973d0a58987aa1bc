"""A module that is made without values is, beside them, the module that is made with."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from clip_lens_plugin.numerics.without_values import without_values


@pytest.mark.parametrize("name", ["test_vit", "test_vit3", "eva02_tiny_patch14_224"])
def test_structure_shapes_and_dtypes_are_those_of_the_meta_device(name):
    with torch.device("meta"):
        expected = timm.create_model(name)
    with without_values():
        found = timm.create_model(name)
    assert str(found) == str(expected)
    shapes = [
        [(key, weight.shape, weight.dtype, weight.device) for key, weight in each.state_dict().items()]
        for each in (found, expected)
    ]
    assert shapes[0] == shapes[1]


def test_what_has_values_is_filled_as_ever():
    with without_values():
        away = nn.Linear(2, 3)
        here = torch.zeros(2, device="cpu").add_(1)
        nn.init.constant_(kept := torch.empty(2, device="cpu"), 3.0)
    assert away.weight.is_meta
    assert here.tolist() == [1, 1]
    assert kept.tolist() == [3, 3]
    assert not nn.Linear(2, 3).weight.is_meta
    assert torch.empty(2).fill_(2).tolist() == [2, 2]
