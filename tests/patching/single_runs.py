"""What patching is, one plain run of the model for each head: what every quicker way is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


def single_runs(
    model: Any, corrupted: Any, clean: Any, metric: Callable[[Tensor], Tensor], name: str, numbers: Iterable[int]
) -> Tensor:
    """The metric's change [b, u] if one head, or neuron, at a hook point is that of the clean run, for each number."""
    donor: dict[str, Tensor] = {}

    def keep(x: Tensor, hook: Any) -> None:
        donor[name] = x.clone()

    def patched(number: int) -> Tensor:
        def patch(x: Tensor, hook: Any) -> Tensor:
            x[:, :, number] = donor[name][:, :, number]
            return x

        return metric(model.run_with_hooks(corrupted, fwd_hooks=[(name, patch)]))

    with torch.no_grad():
        model.run_with_hooks(clean, fwd_hooks=[(name, keep)])
        plain = metric(model(corrupted))
        return torch.stack([patched(number) - plain for number in numbers], dim=-1)


def every_head(model: Any, corrupted: Any, clean: Any, metric: Callable[[Tensor], Tensor]) -> Tensor:
    """The same of every head [b, l, h]."""
    names = [f"blocks.{l}.attn.hook_z" for l in range(model.cfg.n_layers)]
    heads = range(model.cfg.n_heads)
    return torch.stack([single_runs(model, corrupted, clean, metric, name, heads) for name in names], dim=1)


def toward_own(model: Any, n: int) -> Callable[[Tensor], Tensor]:
    """A metric with a direction for each pair, so that pairs cannot be mistaken for each other."""
    targets = torch.randn(n, model.cfg.d_embed, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def metric(embedding: Tensor) -> Tensor:
        return (torch.nn.functional.normalize(embedding, dim=-1) * targets).sum(-1)

    return metric
