"""Questions with a known answer, and runs of open_clip's own model without heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import pytest
import torch
from torch import Tensor, nn

from clip_lens_plugin import Contributions, HookedCLIP
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier
from tests.conftest import random_clip

PLANTED, AGAINST = (1, 2), (2, 0)
"""Of :func:`planted`: the head that all of the answer comes from, and one that speaks against it."""


def classifier(embeddings: Tensor, *names: str) -> ZeroShotClassifier:
    return ZeroShotClassifier(names or tuple(f"text {i}" for i in range(len(embeddings))), embeddings, 1.0)


def unit(*shape: int, seed: int = 0) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return nn.functional.normalize(made, dim=-1)


def planted(c: Contributions) -> ZeroShotClassifier:
    """Two texts between which one head of one image decides, another speaks against it, and nothing else says a thing.

    The difference of the texts is the direction whose product with each component is as planned.
    """
    parts, labels = c.stack()
    wanted = torch.zeros(len(labels), dtype=torch.float64)
    wanted[labels.index("L{}H{}".format(*PLANTED))], wanted[labels.index("L{}H{}".format(*AGAINST))] = 1.0, -0.4
    along = torch.linalg.lstsq(parts[0], wanted[:, None], driver="gelsd").solution[:, 0]
    along = along / along.norm()
    beside = unit(1, len(along), seed=3)[0]
    beside = nn.functional.normalize(beside - (beside @ along) * along, dim=0)
    return classifier(torch.stack([0.8 * beside + 0.6 * along, 0.8 * beside - 0.6 * along]), "A", "B")


@pytest.fixture
def clip() -> nn.Module:
    return random_clip(dtype=torch.float64)


@pytest.fixture
def plain(clip, tokenizer) -> HookedCLIP:
    return HookedCLIP.from_open_clip(clip, tokenizer=tokenizer)


@contextmanager
def without(
    clip: nn.Module, heads: Sequence[tuple[int, int]], means: Mapping[int, Tensor] | None
) -> Iterator[dict[int, Tensor]]:
    """Inside, torch's own hooks give other outputs of attention: its heads computed by hand, some replaced.

    Args:
        clip: open_clip's model, whose blocks are run as they are but for the attention.
        heads: that are replaced.
        means: what they put out instead [n, h, k], by layer; zero if not given.

    Yields:
        What all heads put out in the last run [b, n, h, k], by layer.
    """
    seen: dict[int, Tensor] = {}

    def attend(layer: int, module: nn.MultiheadAttention, inputs: tuple[Tensor, ...]) -> tuple[Tensor, None]:
        x, h = inputs[0], module.num_heads
        q, k, v = (x @ module.in_proj_weight.T + module.in_proj_bias).unflatten(-1, (3, h, -1)).unbind(2)
        scores = torch.einsum("bqhk,bihk->bhqi", q, k) / q.shape[-1] ** 0.5
        seen[layer] = z = torch.einsum("bhqi,bihk->bqhk", scores.softmax(-1), v)
        z = z.clone()
        for head in [head for l, head in heads if l == layer]:
            z[:, :, head] = 0.0 if means is None else means[layer][:, head]
        return z.flatten(2) @ module.out_proj.weight.T + module.out_proj.bias, None

    with ExitStack() as stack:
        for layer, block in enumerate(clip.visual.transformer.resblocks):
            handle = block.attn.register_forward_hook(
                lambda module, inputs, output, layer=layer: attend(layer, module, inputs)
            )
            stack.callback(handle.remove)
        yield seen
