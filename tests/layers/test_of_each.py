"""What a pooling makes of each token by itself is what it makes of a stream with no other token that it reads."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP
from tests.support.families import FAMILIES


@pytest.mark.parametrize(
    "family", ["plain", "norm_then_mean", "clipa", "coca", "SigLIP", "SigLIP with registers", "PE"]
)
def test_each_token_is_pooled_as_if_it_were_the_only_one(family: str) -> None:
    model = HookedCLIP.from_open_clip(FAMILIES[family]().double())
    stream = torch.randn(2, 3, model.cfg.d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    skipped = torch.full((2, model.pooling.positions.start, model.cfg.d_model), 7.0, dtype=torch.float64)
    found = model.pooling.of_each(stream, model.ln_final)
    for token in range(3):
        alone = torch.cat([skipped, stream[:, token : token + 1]], dim=1)
        torch.testing.assert_close(found[:, token], model.pooling(alone, model.ln_final))
