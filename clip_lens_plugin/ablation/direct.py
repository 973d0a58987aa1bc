"""Direct effects: components are replaced in the sum, M − c + c', and nothing is run again (section 3 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.ablation.component_sets import Components
from clip_lens_plugin.ablation.data import constants_of, donors, means_of, pieces, rows_of
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.constants import Constants
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.statistics.means import ComponentSums


def direct_logits(
    data: Data,
    classes: Float[Tensor, "t e"],
    components: Sequence[Components],
    ablation: str,
    source: Data | ComponentSums,
    seed: int,
    constants: Constants,
) -> Iterator[tuple[range, int, Float[Tensor, "s t"]]]:
    """(rows, number of the set or -1 for nothing ablated, cosines with the classes, the norm frozen), piece by piece.

    A component is replaced with its share of the constants, where they are shared out.

    Raises:
        ValueError: if a hook on ``hook_result`` changed a head, resampling is from sums, or components and their
            replacements cannot have the same constants.
    """
    means, chosen = None, None
    if ablation == "mean":
        means = means_of(source, constants)
    elif ablation == "resample":
        if isinstance(source, ComponentSums):
            raise ValueError("Resampling takes components of single images; give contributions or a store, not sums.")
        constants_of(source, constants)
        chosen = donors(len(data), source, same=source is data, seed=seed)
    directions = None
    for rows, own in pieces(data, constants):
        own.refuse_result_edits()
        if directions is None:
            directions = own.readout.directions(classes, constants)
        donated = None
        if chosen is not None and not isinstance(source, ComponentSums):
            donated = rows_of(source, chosen[rows.start : rows.stop]).with_constants(constants)
        changes = _Changes(own, classes, directions, means, donated)
        with full_precision():
            whole = equations.towards(own.embedding, classes)
        yield rows, -1, whole
        for number, each in enumerate(components):
            yield rows, number, whole + changes.of(each)


class _Changes:
    """What replacing components adds to the cosines of some images; shared parts are computed once."""

    def __init__(
        self,
        own: Contributions,
        classes: Float[Tensor, "t e"],
        directions: Float[Tensor, "l h k t"],
        means: ComponentSums | None,
        donated: Contributions | None,
    ) -> None:
        self._own, self._classes, self._directions = own, classes, directions
        self._means, self._donated = means, donated
        # Not functools.cache: of a bound method it would hold this object, which would hold it.
        self._known: dict[tuple[str, int], Tensor] = {}
        self._coordinates = self._change("head_coordinates", "coordinates")

    def of(self, components: Components) -> Float[Tensor, "s t"]:
        """The change of one set."""
        n_heads = self._own.readout.n_heads
        whole = {l for l in components.biases if sum(layer == l for layer, _ in components.heads) == n_heads}
        rest = [(l, h) for l, h in sorted(components.heads) if l not in whole]
        parts = [self._once("layer", l) for l in sorted(whole)]
        parts += [self._bias(l) for l in sorted(components.biases - whole)]
        parts += [self._heads(rest)] if rest else []
        parts += [self._once("mlp", l) for l in sorted(components.mlps)]
        parts += [self._once("own_token", l) for l in sorted(components.self_attention)]
        return torch.stack(parts).sum(0) if parts else self._own.embedding.new_zeros(len(self._own), len(self._classes))

    def _once(self, what: str, l: int) -> Float[Tensor, "s t"]:
        """The change of a layer, an MLP or a class token, computed when first asked for."""
        if (what, l) not in self._known:
            change = {"layer": self._layer, "mlp": self._mlp, "own_token": self._own_token}[what]
            self._known[what, l] = change(l)
        return self._known[what, l]

    def _layer(self, l: int) -> Float[Tensor, "s t"]:
        return self._heads([(l, h) for h in range(self._own.readout.n_heads)]) + self._bias(l)

    @full_precision()
    def _heads(self, heads: list[tuple[int, int]]) -> Float[Tensor, "s t"]:
        layers, numbers = (list(each) for each in zip(*heads, strict=True))
        return equations.score_of_heads(self._coordinates[:, layers, numbers], self._directions[layers, numbers])

    @full_precision()
    def _bias(self, l: int) -> Float[Tensor, "s t"]:
        return equations.towards(self._biases[:, l], self._classes)

    @full_precision()
    def _mlp(self, l: int) -> Float[Tensor, "s t"]:
        return equations.towards(self._mlps[:, l], self._classes)

    @full_precision()
    def _own_token(self, l: int) -> Float[Tensor, "s t"]:
        return equations.towards(self._self_attention[:, l], self._classes)

    @cached_property
    def _biases(self) -> Float[Tensor, "s l e"]:
        return self._change("attn_bias", "attn_bias")

    @cached_property
    def _mlps(self) -> Float[Tensor, "s l e"]:
        return self._change("mlps", "mlps")

    @cached_property
    def _self_attention(self) -> Float[Tensor, "s l e"]:
        return self._change("self_attention", "self_attention")

    def _change(self, name: str, name_in_sums: str) -> Tensor:
        own = getattr(self._own, name)
        if self._donated is not None:
            return getattr(self._donated, name) - own
        return -own if self._means is None else getattr(self._means, name_in_sums).to(own) - own
