"""``on_threads``: so many inside, as many as before afterwards."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin.numerics.threads import on_threads


def test_threads_are_those_asked_for_inside_and_as_before_afterwards_whatever_happens_inside() -> None:
    before = torch.get_num_threads()
    with on_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(KeyError), on_threads(before + 2):
        raise KeyError
    assert torch.get_num_threads() == before
