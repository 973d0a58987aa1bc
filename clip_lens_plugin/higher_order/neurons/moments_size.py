"""How large the moments of neurons are, said and refused before any image runs."""

from __future__ import annotations

from typing import Any

from clip_lens_plugin.higher_order.neurons.greatest_effects import MOST
from clip_lens_plugin.higher_order.scalars import ChosenNeurons, checked_neurons, later_layers
from clip_lens_plugin.hints import hint
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.protocol import ImageModel, Tower
from clip_lens_plugin.plain_text import two_digits

MOST_BYTES = 10**9
"""The largest moments of neurons that a data set's may be."""


@takes_bridges
def moments_bytes(model: ImageModel, neurons: Any) -> int:
    """Bytes of the moments of chosen neurons, however many images they are of.

    Args:
        neurons: layers in a list; or layer to its neurons, see :func:`neuron_scalars`.

    Raises:
        ValueError: as :func:`neuron_scalars`.
        IndexError: if there is no such layer or neuron.
    """
    return _bytes(model, checked_neurons(model, neurons))


def refuse_large_moments(model: Tower, chosen: ChosenNeurons) -> None:
    """Raises ValueError if the moments would be larger than :data:`MOST_BYTES`; the message says what would fit."""
    asked = _bytes(model, chosen)
    if asked <= MOST_BYTES:
        return
    fitting = {layer: min(model.cfg.d_mlp, MOST_BYTES // _bytes_each(model, layer)) for layer in chosen}
    fits = ", ".join(f"{n:,} of layer {layer}" for layer, n in fitting.items())
    first, n = next(iter(fitting.items()))
    some = hint(f"neurons={{{first}: range({n})}}", f"--neurons {first}:0-{n - 1}")
    raise ValueError(
        f"Moments of {counted(chosen)} would take {in_gigabytes(asked)}, more than {in_gigabytes(MOST_BYTES)}. As many "
        f"neurons would fit, of one layer alone: {fits}. Give fewer, such as {some}."
    )


def counted(chosen: ChosenNeurons) -> str:
    """In words: "6,144 neurons of layers 4, 5"."""
    total = sum(len(each) for each in chosen.values())
    layers = ", ".join(map(str, chosen))
    return f"{total:,} neuron{'' if total == 1 else 's'} of layer{'' if len(chosen) == 1 else 's'} {layers}"


def in_gigabytes(n: int) -> str:
    """Bytes in words."""
    return f"{two_digits(n / 10**9)} GB" if n >= 10**8 else f"{two_digits(n / 10**6)} MB"


def _bytes(model: Tower, chosen: ChosenNeurons) -> int:
    return sum(len(neurons) * _bytes_each(model, layer) for layer, neurons in chosen.items())


def _bytes_each(model: Tower, layer: int) -> int:
    """The products, the sums, and the greatest images' scalars, lengths and positions; the neuron's own number."""
    q = len(later_layers(model, layer)) * model.cfg.n_heads * model.pooling.n_heads
    return 8 * (q * q + q) + MOST * (4 * q + 16) + 8
