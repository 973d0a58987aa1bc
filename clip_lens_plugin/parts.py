"""The parts of an embedding, pooled with ω: all that their sum needs, and all that is kept of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.factors import Factors
from clip_lens_plugin.readout import Constants, Readout


@dataclass(frozen=True)
class Parts:
    """Pooled parts of b images in units of the unnormalised embedding; float32, or float64 for a float64 model.

    Tensors of their own, none a view of an activation, so that they keep nothing else in memory.

    Attributes:
        embedding: M(I) as the model gave it [b, e].
        omega: ω of each pooled position [b, p, r]; p counts an attention pool's heads, and is 1 for other poolings.
        coordinates: y = Σ_q ω z of each head, the p laid end to end [b, l, h, p · k].
        mlps: the contribution of each MLP [b, l, e].
        embed: the contribution of the stream that enters block 0 [b, e].
        self_attention: of each layer's heads together, the part that the class token sends to itself [b, l, e];
            None if it was not kept.
        pool_bias, pool_mlp: what an attention pool's constants and its MLP add [b, e]; None where it has none.
        bias_weight: Σ_q ω over the scale of a norm after W_O [b, l, p], which a part of the biases goes with; None
            without such norms.
        rounding: the coarsest dtype that the parts went through.
        stream_mean: Σ_q ω times the mean over channels of the last stream [b, p]; None if it was not kept.
        edits: what hooks added to the stream in each layer beside heads and MLPs [b, l, e]; None if not measured.
        head_edits: layer to what a hook on ``hook_result`` added to each head's contribution beyond what its
            coordinates say [b, h, e]; only the layers where one did.
        attended: effective attention ā = Σ_q ω A of each source token [b, l, n, h, p]; None if tokens were not kept.
        values: ``hook_v`` of each token, in the model's dtype [b, l, n, h, k]; None if tokens were not kept.
        neurons: Σ_q ω times ``mlp.hook_post`` [b, l, p, d_mlp]; None if neurons were not kept.
    """

    embedding: Float[Tensor, "b e"]
    omega: Float[Tensor, "b p r"]
    coordinates: Float[Tensor, "b l h pk"]
    mlps: Float[Tensor, "b l e"]
    embed: Float[Tensor, "b e"]
    self_attention: Float[Tensor, "b l e"] | None
    pool_bias: Float[Tensor, "b e"] | None
    pool_mlp: Float[Tensor, "b e"] | None
    bias_weight: Float[Tensor, "b l p"] | None
    rounding: torch.dtype
    stream_mean: Float[Tensor, "b p"] | None = None
    edits: Float[Tensor, "b l e"] | None = None
    head_edits: Mapping[int, Float[Tensor, "b h e"]] = field(default_factory=dict)
    attended: Float[Tensor, "b l n h p"] | None = None
    values: Float[Tensor, "b l n h k"] | None = None
    neurons: Float[Tensor, "b l p m"] | None = None

    @classmethod
    def of(cls, readout: Readout, factors: Factors, constants: Constants) -> Parts:
        """Pools and folds the factors; the means of the stream stay in if the constants are spread."""
        pooling, dtype = readout.pooling, readout.P.dtype
        read = {name: value.to(dtype) for name, value in factors.read.items()}
        omega = pooling.omega(read)
        pool, to_joint = partial(readout.pool, omega), partial(readout.to_joint, constants=constants)
        coordinates = torch.stack([pool(z) for z in factors.z], dim=1)
        messages = [readout.layer_stream(pool(each), layer) for layer, each in enumerate(factors.self_message)]
        bias_weight = _stacked([pool(each) for each in factors.bias_weight])
        edits = None
        if factors.resid_pre:
            beside = [to_joint(each) for each in _written_beside(readout, factors, omega, coordinates)]
            edits = torch.stack(beside, dim=1) - readout.biases(omega.sum(2), bias_weight, constants)
        return cls(
            embedding=factors.embedding.to(dtype),
            omega=omega,
            coordinates=coordinates,
            mlps=to_joint(torch.stack([pool(out) for out in factors.mlp_out], dim=1)),
            embed=to_joint(pool(factors.embed)),
            self_attention=to_joint(torch.stack(messages, dim=1)) if messages else None,
            pool_bias=pooling.bias(read, readout.beta, readout.P),
            pool_mlp=pooling.mlp_part(read, readout.P),
            bias_weight=bias_weight,
            rounding=factors.z[0].dtype,
            stream_mean=(omega @ factors.final.to(dtype).mean(-1, keepdim=True))[..., 0],
            edits=edits,
            head_edits={
                layer: to_joint(pool(edit)) for layer, edit in enumerate(factors.result_edit) if edit is not None
            },
            attended=_stacked([_attended(omega, pattern) for pattern in factors.pattern]),
            values=_stacked(factors.v),
            neurons=_stacked([omega @ post.to(dtype) for post in factors.post]),
        )

    def tensors(self) -> dict[tuple[str, int], Tensor]:
        """Every tensor that is there, each with the images first, by the attribute's name and layer (-1 for none)."""
        found: dict[tuple[str, int], Tensor] = {}
        for each in fields(Parts):
            value = getattr(self, each.name)
            if isinstance(value, Tensor):
                found[each.name, -1] = value
            elif isinstance(value, Mapping):
                found |= {(each.name, layer): tensor for layer, tensor in value.items()}
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[tuple[str, int], Tensor], rounding: torch.dtype) -> Parts:
        """Those of which :meth:`tensors` gives these."""
        values: dict[str, Any] = {each.name: None for each in fields(Parts)}
        values |= {"rounding": rounding, "head_edits": {}}
        for (name, layer), tensor in tensors.items():
            if layer < 0:
                values[name] = tensor
            else:
                values[name][layer] = tensor
        return cls(**values)

    def select(self, rows: Int[Tensor, " s"] | slice) -> Parts:
        """The parts of some of the images: copies, or views of a slice."""

        def at(tensor: Tensor) -> Tensor:
            return tensor[rows] if isinstance(rows, slice) else tensor[rows.to(tensor.device)]

        return Parts.from_tensors({key: at(tensor) for key, tensor in self.tensors().items()}, self.rounding)


class JoinedParts:
    """The parts of n images, of several runs: each run is copied to its place at once, so that nothing is held twice.

    What a run lacks and others have is dropped, save edits, which are zero there.
    """

    def __init__(self, n: int) -> None:
        self._n, self._done = n, 0
        self._tensors: dict[tuple[str, int], Tensor] = {}
        self._rounding: torch.dtype | None = None

    def add(self, parts: Parts) -> None:
        """Takes the next run's."""
        given, start = parts.tensors(), self._done
        self._rounding, self._done = parts.rounding, start + len(parts.embedding)
        if self._done == self._n and start == 0:
            self._tensors = given
            return
        for key in self._tensors.keys() - given.keys():
            if key[0] != "head_edits":
                del self._tensors[key]
        for key, tensor in given.items():
            if key not in self._tensors and key[0] == "head_edits":
                self._tensors[key] = tensor.new_zeros(self._n, *tensor.shape[1:])
            elif key not in self._tensors and start == 0:
                self._tensors[key] = tensor.new_empty(self._n, *tensor.shape[1:])
            if key in self._tensors:
                self._tensors[key][start : self._done] = tensor

    def whole(self) -> Parts:
        """Those of all images."""
        assert self._rounding is not None
        assert self._done == self._n
        return Parts.from_tensors(self._tensors, self._rounding)


def _written_beside(
    readout: Readout, factors: Factors, omega: Float[Tensor, "b p r"], coordinates: Float[Tensor, "b l h pk"]
) -> Iterator[Float[Tensor, "b pd"]]:
    """What entered the pooled stream in each layer beside heads and MLP: b_O, and what hooks added."""
    pool = partial(readout.pool, omega)
    stops = [*factors.resid_pre[1:], factors.final]
    starts = [factors.embed, *factors.resid_pre[1:]]
    for layer, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        heads, edit = readout.layer_stream(coordinates[:, layer], layer), factors.result_edit[layer]
        if edit is not None:
            heads = heads + pool(edit).sum(1)
        yield pool(stop) - pool(start) - pool(factors.mlp_out[layer]) - heads


def _stacked(by_layer: list[Tensor]) -> Tensor | None:
    return torch.stack(by_layer, dim=1) if by_layer else None


def _attended(omega: Float[Tensor, "b p r"], pattern: Float[Tensor, "b h r n"]) -> Float[Tensor, "b n h p"]:
    return (omega[:, None] @ pattern.to(omega.dtype)).permute(0, 3, 1, 2)
