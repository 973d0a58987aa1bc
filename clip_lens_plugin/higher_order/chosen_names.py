"""Chosen neurons as text: "4,5:0-99" for all of layer 4, and the first hundred of layer 5."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch

from clip_lens_plugin.higher_order.scalars import ChosenNeurons
from clip_lens_plugin.model.protocol import Tower

ITEM = re.compile(r"(\d{1,6})(?::(\d{1,6})(?:-(\d{1,6}))?)?", re.ASCII)
"""Of numbers so short that a range of them is not large."""


def neurons_of_text(text: str) -> dict[int, list[int] | None]:
    """Layer to its neurons, None for all of them; what items say of one layer is united.

    Args:
        text: items with commas between them: a layer, a layer and a neuron, or a layer and the first and the last of
            some: "4", "4:7", "4:0-99".

    Raises:
        ValueError: if it is something else.
    """
    found: dict[int, list[int] | None] = {}
    for item in text.split(","):
        match = ITEM.fullmatch(item.strip())
        if match is None:
            raise ValueError(
                f"Neurons are given as layers, 4,5, or as a layer with neurons, 4:7 or 4:0-99, with commas between "
                f"them; got {item.strip()!r} in {text!r}."
            )
        layer, first, last = (None if each is None else int(each) for each in match.groups())
        assert layer is not None
        before = found.get(layer, [])
        if first is None or before is None:
            found[layer] = None
            continue
        end = first if last is None else last
        if end < first:
            raise ValueError(f"In {item.strip()!r} the last neuron comes before the first: {layer}:{end}-{first}?")
        found[layer] = sorted({*before, *range(first, end + 1)})
    return found


def text_of_neurons(model: Tower, chosen: ChosenNeurons) -> str:
    """The shortest such text; the same for the same neurons, in whatever order they were given."""
    return ",".join(item for layer, neurons in sorted(chosen.items()) for item in _items(model, layer, neurons))


def _items(model: Tower, layer: int, neurons: torch.Tensor) -> Iterator[str]:
    own = sorted(set(neurons.tolist()))
    if len(own) == model.cfg.d_mlp:
        yield str(layer)
        return
    starts = [each for each in own if each - 1 not in own]
    ends = [each for each in own if each + 1 not in own]
    for first, last in zip(starts, ends, strict=True):
        yield f"{layer}:{first}" if first == last else f"{layer}:{first}-{last}"
