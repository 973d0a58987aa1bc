"""What ``explore`` refuses before a page is made."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import Groups, HookedCLIP, explore, group_effects
from clip_lens_plugin.app.explored import Explored
from tests.conftest import random_clip, random_images

pytest.importorskip("gradio")


def test_groups_are_effects_of_this_model(explored: Explored) -> None:
    groups = Groups.of([0, 0, 1, 1], [0, 1, 0, 1])
    with pytest.raises(
        ValueError, match=r"groups takes what group_effects\(data, classifier, groups\) gives, got Groups"
    ):
        explore(explored.model, explored.data, groups=groups, open_browser=False)  # type: ignore[arg-type]
    small = HookedCLIP.from_open_clip(random_clip())
    texts = torch.nn.functional.normalize(torch.randn(2, small.cfg.d_embed), dim=-1)
    other = group_effects(small.decompose(random_images(small, 4)), texts, groups)
    with pytest.raises(ValueError, match=r"of a model of 3 layers with 4 heads, and this one has 6 with 8"):
        explore(explored.model, explored.data, groups=other, open_browser=False)
