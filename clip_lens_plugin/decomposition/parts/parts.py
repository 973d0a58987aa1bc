"""The parts of an embedding, pooled with ω: all that their sum needs, and all that is kept of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.parts.extras import BIAS_WEIGHT, COMPONENTS
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.decomposition.running.activations import Factors
from clip_lens_plugin.numerics.noise import computed_noise
from clip_lens_plugin.numerics.precision import full_precision, rounding

Key = tuple[str, int | str | None]
"""An attribute, and where its tensor is one of several the layer or the name that it has there."""

SHARES = "shares."
"""Before the names of the tensors of :class:`Shares` among those of :class:`Parts`."""

OF_HOOKS = ("head_edits", "replaced")
"""What only layers with hooks have: zero, or False, in runs without."""


@dataclass(frozen=True)
class Shares:
    """What the parts become if the constants are shared out over heads and MLPs, in units of the embedding.

    A part that keeps its own mean has as much more as that mean times :attr:`Readout.mean_directions`. A mean is
    Σ_q ω times the mean over the width of the stream.

    Attributes:
        weights: of each head, see :func:`~clip_lens_plugin.decomposition.equations.share_weights` [b, l, s].
        mlps, embed, self_attention, edits: means of what :class:`Parts` has under these names [b, l, p], of ``embed``
            [b, p]; None where that has none.
        head_edits: the same by layer [b, h, p].
    """

    weights: Float[Tensor, "b l s"]
    mlps: Float[Tensor, "b l p"]
    embed: Float[Tensor, "b p"]
    self_attention: Float[Tensor, "b l p"] | None = None
    edits: Float[Tensor, "b l p"] | None = None
    head_edits: Mapping[int, Float[Tensor, "b h p"]] = field(default_factory=dict)


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
        rounding: the coarsest dtype that the parts went through.
        noise: relative size of what rounding leaves of them.
        hooked: layers in which a hook stood on what heads put out; None if that is not known, as of a cached run.
        replaced: heads that a hook on ``hook_z`` changed otherwise than to zero, of the layers in ``hooked`` [b, h].
        extras: what this family alone has, by the names of :mod:`clip_lens_plugin.decomposition.parts.extras`: what
            its pooling adds by itself [b, e], and the weight of a part of its biases [b, l, p].
        shares: what is needed to share the constants out; None if it was not kept.
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
    rounding: torch.dtype
    noise: float
    extras: Mapping[str, Float[Tensor, "b *rest"]] = field(default_factory=dict)
    shares: Shares | None = None
    edits: Float[Tensor, "b l e"] | None = None
    head_edits: Mapping[int, Float[Tensor, "b h e"]] = field(default_factory=dict)
    attended: Float[Tensor, "b l n h p"] | None = None
    values: Float[Tensor, "b l n h k"] | None = None
    neurons: Float[Tensor, "b l p m"] | None = None
    hooked: frozenset[int] | None = None
    replaced: Mapping[int, Bool[Tensor, "b h"]] = field(default_factory=dict)

    @classmethod
    @full_precision()
    def of(cls, readout: Readout, factors: Factors) -> Parts:
        """Pools and folds the factors."""
        pooling, dtype = readout.pooling, readout.P.dtype
        read = {name: value.to(dtype) for name, value in factors.read.items()}
        omega = pooling.omega(read)
        pool, to_joint = partial(readout.pool, omega), partial(readout.to_joint, constants="separate")

        def mean(pooled: Float[Tensor, "*batch pd"]) -> Float[Tensor, "*batch p"]:
            return pooled.unflatten(-1, (pooling.n_heads, -1)).mean(-1)

        coordinates = torch.stack([equations.head_coordinates(omega, z.to(dtype)) for z in factors.z], dim=1)
        mlps, embed = torch.stack([pool(out) for out in factors.mlp_out], dim=1), pool(factors.embed)
        sent = _stacked([readout.layer_stream(pool(each), layer) for layer, each in enumerate(factors.self_message)])
        scaled = _stacked([pool(each) for each in factors.bias_weight])
        beside = _stacked([*_written_beside(readout, factors, omega, coordinates, scaled)])
        head_edits = {layer: pool(edit) for layer, edit in enumerate(factors.result_edit) if edit is not None}
        return cls(
            embedding=factors.embedding.to(dtype),
            omega=omega,
            coordinates=coordinates,
            mlps=to_joint(mlps),
            embed=to_joint(embed),
            self_attention=None if sent is None else to_joint(sent),
            rounding=rounding(factors.z[0].dtype, factors.z[0].device),
            noise=computed_noise(rounding(factors.z[0].dtype, factors.z[0].device)),
            extras={
                **pooling.own_parts(read, readout.beta, readout.P),
                **({} if scaled is None else {BIAS_WEIGHT: scaled}),
            },
            shares=Shares(
                weights=share_weights(readout, read, omega, factors).contiguous(),
                mlps=mean(mlps),
                embed=mean(embed),
                self_attention=None if sent is None else mean(sent),
                edits=None if beside is None else mean(beside),
                head_edits={layer: mean(each) for layer, each in head_edits.items()},
            ),
            edits=None if beside is None else to_joint(beside),
            head_edits={layer: to_joint(edit) for layer, edit in head_edits.items()},
            attended=_stacked([_attended(omega, pattern()) for pattern in factors.pattern]),
            values=_stacked(factors.v),
            neurons=_stacked([equations.pooled(omega, post.to(dtype)) for post in factors.post]),
            hooked=factors.hooked,
            replaced=factors.replaced,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes what was pickled.

        Earlier versions had an attribute for each of the extras, None without it, and saw from the numbers alone which
        heads a hook replaced.
        """
        earlier = {name: state[name] for name in (*COMPONENTS, BIAS_WEIGHT) if name in state}
        extras = {name: each for name, each in earlier.items() if each is not None}
        kept = {name: state[name] for name in state.keys() - earlier.keys()}
        if "replaced" not in state:
            had_none = state.get("hooked") == frozenset()
            kept |= {"replaced": {}, "hooked": frozenset() if had_none else None}
        self.__dict__.update({"extras": extras, **kept})

    def tensors(self) -> dict[Key, Tensor]:
        """Every tensor that is there, each with the images first."""
        shares = {} if self.shares is None else _tensors(self.shares)
        return _tensors(self) | {(SHARES + name, at): tensor for (name, at), tensor in shares.items()}

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[Key, Tensor],
        rounding: torch.dtype,
        noise: float,
        hooked: frozenset[int] | None,
    ) -> Parts:
        """Those of which :meth:`tensors` gives these."""
        of_shares = {(n.removeprefix(SHARES), at): each for (n, at), each in tensors.items() if n.startswith(SHARES)}
        own = _values(Parts, {key: each for key, each in tensors.items() if not key[0].startswith(SHARES)})
        shares = Shares(**_values(Shares, of_shares)) if of_shares else None
        return cls(**{**own, "rounding": rounding, "noise": noise, "shares": shares, "hooked": hooked})

    def select(self, rows: Int[Tensor, " s"] | slice) -> Parts:
        """The parts of some of the images: copies, or views of a slice."""

        def at(tensor: Tensor) -> Tensor:
            return tensor[rows] if isinstance(rows, slice) else tensor[rows.to(tensor.device)]

        tensors = {key: at(tensor) for key, tensor in self.tensors().items()}
        return Parts.from_tensors(tensors, self.rounding, self.noise, self.hooked)


def _tensors(held: Parts | Shares) -> dict[Key, Tensor]:
    found: dict[Key, Tensor] = {}
    for each in fields(held):
        value = getattr(held, each.name)
        if isinstance(value, Tensor):
            found[each.name, None] = value
        elif isinstance(value, Mapping):
            found |= {(each.name, at): tensor for at, tensor in value.items()}
    return found


def _values(of: type[Parts | Shares], tensors: Mapping[Key, Tensor]) -> dict[str, Any]:
    values: dict[str, Any] = {
        each.name: None if each.default_factory is MISSING else each.default_factory() for each in fields(of)
    }
    for (name, at), tensor in tensors.items():
        if at is None:
            values[name] = tensor
        else:
            values[name][at] = tensor
    return values


class JoinedParts:
    """The parts of n images, of several runs: each run is copied to its place at once, so that nothing is held twice.

    What a run lacks and others have is dropped, save :data:`OF_HOOKS`.
    """

    def __init__(self, n: int) -> None:
        self._n, self._done = n, 0
        self._tensors: dict[Key, Tensor] = {}
        self._rounding: tuple[torch.dtype, float] | None = None
        self._hooked: frozenset[int] | None = frozenset()

    def add(self, parts: Parts) -> None:
        """Takes the next run's."""
        given, start = parts.tensors(), self._done
        self._done = start + len(parts.embedding)
        self._rounding = parts.rounding, parts.noise
        self._hooked = None if self._hooked is None or parts.hooked is None else self._hooked | parts.hooked
        if self._done == self._n and start == 0:
            self._tensors = given
            return
        for key in self._tensors.keys() - given.keys():
            if not key[0].endswith(OF_HOOKS):
                del self._tensors[key]
        for key, tensor in given.items():
            if key not in self._tensors and key[0].endswith(OF_HOOKS):
                self._tensors[key] = tensor.new_zeros(self._n, *tensor.shape[1:])
            elif key not in self._tensors and start == 0:
                self._tensors[key] = tensor.new_empty(self._n, *tensor.shape[1:])
            if key in self._tensors:
                self._tensors[key][start : self._done] = tensor

    def whole(self) -> Parts:
        """The parts of all images."""
        assert self._rounding is not None
        assert self._done == self._n
        return Parts.from_tensors(self._tensors, *self._rounding, self._hooked)


def share_weights(
    readout: Readout, read: Mapping[str, Tensor], omega: Float[Tensor, "b p r"], factors: Factors
) -> Float[Tensor, "b l s"]:
    """How much of each of :attr:`Readout.share_directions` an image's heads have, in units of the embedding.

    See :func:`~clip_lens_plugin.decomposition.equations.share_weights`. Without an attention pool that is three
    numbers, or four with a norm after W_O.

    Args:
        read: ``factors.read`` in the readout's dtype.
        omega: made from it.
    """
    mean = equations.pooled(omega, factors.final.to(omega.dtype).mean(-1, keepdim=True))[..., 0]
    scaled = _stacked([readout.pool(omega, each) for each in factors.bias_weight])
    return equations.share_weights(mean, omega.sum(2), readout.pooling.bias_weights(read), scaled, len(readout.W_O))


def _written_beside(
    readout: Readout,
    factors: Factors,
    omega: Float[Tensor, "b p r"],
    coordinates: Float[Tensor, "b l h pk"],
    scaled: Float[Tensor, "b l p"] | None,
) -> Iterator[Float[Tensor, "b pd"]]:
    """What hooks added to the pooled stream in each layer beside heads, b_O and MLP; nothing if it was not measured."""
    if not factors.resid_pre:
        return
    pool = partial(readout.pool, omega)
    stops = [*factors.resid_pre[1:], factors.final]
    starts = [factors.embed, *factors.resid_pre[1:]]
    for layer, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        heads, edit = readout.layer_stream(coordinates[:, layer], layer), factors.result_edit[layer]
        if edit is not None:
            heads = heads + pool(edit).sum(1)
        bias = equations.pooled_constant(omega.sum(2), readout.b_O[layer])
        if scaled is not None and readout.b_scaled is not None:
            bias = bias + equations.pooled_constant(scaled[:, layer], readout.b_scaled[layer])
        yield pool(stop) - pool(start) - pool(factors.mlp_out[layer]) - heads - bias.flatten(1)


def _stacked(by_layer: list[Tensor]) -> Tensor | None:
    return torch.stack(by_layer, dim=1) if by_layer else None


def _attended(omega: Float[Tensor, "b p r"], pattern: Float[Tensor, "b h r n"]) -> Float[Tensor, "b n h p"]:
    return equations.effective_attention(omega, pattern.to(omega.dtype)).permute(0, 3, 1, 2)
