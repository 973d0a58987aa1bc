"""What a head reads, term by term: the stream of an earlier point of a run, taken apart and read with given weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition.equations import pooled, pooled_constant, written_by_heads
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.higher_order.equations import neuron_scalars, read_by_heads, written_by_neurons
from clip_lens_plugin.model.protocol import Tower
from clip_lens_plugin.numerics.precision import full_precision


@dataclass(frozen=True)
class Terms:
    """Coordinates of b images, in heads g of one layer, of all that they read. l counts the layers before theirs.

    The sum of ``coordinates`` over c is what the heads put out. c counts, in this order: embed; the heads of each
    layer; b_O of each; the MLP of each, without its output bias; that bias of each; the heads' own constant.

    Attributes:
        coordinates: [b, c, g, p, j].
        scalars: of each neuron, of which the MLPs are made [b, l, m, g, p]; None where MLPs normalise what they write.
    """

    coordinates: Float[Tensor, "b c g p j"]
    scalars: Float[Tensor, "b l m g p"] | None

    def named(self, n_layers: int, n_heads: int) -> dict[str, Float[Tensor, "b *by g p j"]]:
        """The coordinates by the name of what was read: ``heads`` by layer and head, others by layer, or as one."""
        shapes = {
            "embed": (),
            "heads": (n_layers, n_heads),
            "attn_bias": (n_layers,),
            "mlps": (n_layers,),
            "mlp_bias": (n_layers,),
            "constant": (),
        }
        sizes = [torch.Size(shape).numel() for shape in shapes.values()]
        pieces = self.coordinates.split(sizes, dim=1)
        return {
            name: piece.unflatten(1, shape) if len(shape) > 1 else piece if shape else piece[:, 0]
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }


def labels(n_layers: int, n_heads: int) -> list[str]:
    """A label for each c, as :meth:`~clip_lens_plugin.decomposition.contributions.Contributions.stack` gives them."""
    layers = range(n_layers)
    return [
        "embed",
        *(f"L{l}H{h}" for l in layers for h in range(n_heads)),
        *(f"{l}_attn_bias" for l in layers),
        *(f"{l}_mlp" for l in layers),
        *(f"{l}_mlp_bias" for l in layers),
        "constant",
    ]


def kept_for_terms(model: Tower, layer: int) -> list[str]:
    """Hook points whose activations :func:`read_terms` needs of a run, for heads of a layer."""
    names = ["hook_embed"]
    for l in range(layer):
        block = model.blocks[l]
        names += [f"blocks.{l}.attn.hook_z"]
        names += [f"blocks.{l}.hook_mlp_out"] if block.mlp.normalises_output else [f"blocks.{l}.mlp.hook_post"]
        names += [] if block.attn.out.outer is None else [f"blocks.{l}.attn.hook_bias_scale"]
    return names


@full_precision()
def read_terms(
    readout: Readout,
    kept: Mapping[str, Tensor],
    layer: int,
    values: Float[Tensor, "g d j"],
    constant: Float[Tensor, "g j"],
    reads: Float[Tensor, "b g p n"],
    attended: Float[Tensor, "b g p"],
) -> Terms:
    """The terms of the stream before a layer, as its heads read them.

    Args:
        kept: the run's activations at :func:`kept_for_terms`.
        values, constant: of the heads that read, see :class:`~clip_lens_plugin.higher_order.head_maps.HeadMaps`.
        reads: the weight of each token.
        attended: the weight of the heads' constant: ``reads`` without the scale, summed over tokens.
    """
    model, dtype = readout.model, readout.P.dtype
    weights, by_head = reads.flatten(1, 2), reads.shape[1:3]  # one row of weights for each reader
    everywhere, scalars = weights.sum(-1), []
    readout.refuse_changed_weights()

    def at(name: str) -> Tensor:
        return kept[name].to(dtype)

    def of_layer(streams: Float[Tensor, "b q d"]) -> Float[Tensor, "b g p j"]:
        return read_by_heads(streams.unflatten(1, by_head), values)

    def heads(l: int) -> Iterator[Float[Tensor, "b g p j"]]:
        z = pooled(weights, at(f"blocks.{l}.attn.hook_z")).movedim(1, 2)
        yield from (of_layer(each) for each in written_by_heads(z, readout.W_O[l]).unbind(2))

    def attn_bias(l: int) -> Float[Tensor, "b g p j"]:
        written = pooled_constant(everywhere, readout.b_O[l])
        if readout.b_scaled is not None and model.blocks[l].attn.out.outer is not None:
            scaled = pooled(weights, at(f"blocks.{l}.attn.hook_bias_scale").reciprocal())
            written = written + pooled_constant(scaled[..., 0], readout.b_scaled[l])
        return of_layer(written)

    def mlp(l: int) -> Float[Tensor, "b g p j"]:
        if model.blocks[l].mlp.normalises_output:
            return of_layer(pooled(weights, at(f"blocks.{l}.hook_mlp_out")))
        scalars.append(neuron_scalars(at(f"blocks.{l}.mlp.hook_post"), weights.transpose(1, 2)))
        return of_layer(written_by_neurons(scalars[-1], readout.W_out(l)))

    def mlp_bias(l: int) -> Float[Tensor, "b g p j"]:
        bias = model.blocks[l].mlp.b_out.detach().to(dtype)
        # A bias that is normalised with the neurons is in what the MLP wrote.
        return of_layer(
            pooled_constant(everywhere, torch.zeros_like(bias) if model.blocks[l].mlp.normalises_output else bias)
        )

    layers = range(layer)
    coordinates = [
        of_layer(pooled(weights, at("hook_embed"))),
        *(each for l in layers for each in heads(l)),
        *(attn_bias(l) for l in layers),
        *(mlp(l) for l in layers),
        *(mlp_bias(l) for l in layers),
        attended[..., None] * constant[:, None],
    ]
    by_neuron = torch.stack(scalars, dim=1).unflatten(-1, by_head) if scalars else None
    return Terms(torch.stack(coordinates, dim=1), by_neuron)
