"""What feeds a head: its contribution as an exact sum over everything before it, patterns and statistics frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.bars import tracked
from clip_lens_plugin.decomposition.completeness import CompletenessError
from clip_lens_plugin.decomposition.equations import gram, quadratic, through_own, towards
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.higher_order import equations
from clip_lens_plugin.higher_order.frozen_run import FROZEN, FrozenRun, frozen_run, refuse_unseen_hooks
from clip_lens_plugin.higher_order.head_maps import HeadMaps
from clip_lens_plugin.higher_order.scalars import images_at_once
from clip_lens_plugin.higher_order.terms import Terms, kept_for_terms, labels, read_terms
from clip_lens_plugin.higher_order.texts import given_texts
from clip_lens_plugin.model.inputs.of_tower import given_to
from clip_lens_plugin.model.protocol import Tower
from clip_lens_plugin.numerics.noise import TOLERANCE
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.shown import Shown

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, eq=False, repr=False)
class Upstream(Shown):
    """What everything before a head, or before all heads of a layer, adds through it to the embeddings of b images.

    A term is what one source wrote at all tokens, through the head: one hop of attention. Patterns, the scales of
    LayerNorms and the norm of the embedding are as they were in the run. l counts the layers before the head's, h their
    heads, g the heads of the layer: an axis that is there only where no head was chosen. w is the width e of the joint
    space; after :meth:`towards`, the number of texts.

    Every term is float32, or float64 for a float64 model. Values are in the unit of the unnormalised embedding, or of a
    cosine after :meth:`normalized`.

    Attributes:
        readout: the model's folded weights.
        layer, head: that are fed; None for all heads of the layer.
        names: of the images (or texts).
        texts: names of the texts that the terms are taken towards; None for terms in the joint space.
        unit: "embedding" or "cosine".
        rounding: the coarsest dtype that the model's products were rounded to.
    """

    readout: Readout
    layer: int
    head: int | None
    names: tuple[str, ...]
    texts: tuple[str, ...] | None
    unit: str
    rounding: torch.dtype
    _maps: HeadMaps
    _onto: Float[Tensor, "g p j w"]
    _terms: Terms
    _own: Float[Tensor, "b g p j"]
    _norm: Float[Tensor, " b"]

    def __len__(self) -> int:
        return len(self._own)

    @property
    def embed(self) -> Float[Tensor, "b *g w"]:
        """What the stream that enters block 0 adds through the head."""
        return self._through(self._named("embed"))

    @property
    def heads(self) -> Float[Tensor, "b *g l h w"]:
        """What each earlier head adds through the head."""
        return self._through(self._named("heads"))

    @property
    def attn_bias(self) -> Float[Tensor, "b *g l w"]:
        """What each earlier layer's b_O adds through the head."""
        return self._through(self._named("attn_bias"))

    @property
    def mlps(self) -> Float[Tensor, "b *g l w"]:
        """What each earlier MLP adds through the head, without its output bias: the sum of its neurons.

        Where MLPs normalise what they write, with that bias.
        """
        return self._through(self._named("mlps"))

    @property
    def mlp_bias(self) -> Float[Tensor, "b *g l w"]:
        """What the output bias of each earlier MLP adds; zero where it is normalised with the neurons."""
        return self._through(self._named("mlp_bias"))

    @property
    def constant(self) -> Float[Tensor, "b *g w"]:
        """What the head's own constants add: its value bias, and the β of the LayerNorm that it reads through."""
        return self._through(self._named("constant"))

    @property
    def contribution(self) -> Float[Tensor, "b *g w"]:
        """What the head adds: its contribution as :func:`decompose` gives it, which the terms sum to."""
        return self._through(self._own)

    @full_precision()
    def neurons(self, layer: int) -> Float[Tensor, "b *g m w"]:
        """What each neuron of an earlier layer adds through the head.

        Raises:
            ValueError: if the layer's MLP normalises what it writes; or it is not before the head, or no whole number.
            IndexError: if there is no such layer.
        """
        number = self.readout.model.cfg.checked_layer(layer)
        if number >= self.layer:
            raise ValueError(f"Layer {number} is not before layer {self.layer}, whose heads read earlier layers alone.")
        W_out = self.readout.W_out(number)
        assert self._terms.scalars is not None
        by_head = []
        for g, scalars in enumerate(self._terms.scalars[:, number].unbind(2)):
            some = slice(g, g + 1)
            directions = equations.neuron_directions(W_out, self._maps.values[some], self._onto[some])
            by_head.append(equations.neuron_effects(scalars, directions[:, 0]))
        return by_head[0] if self.head is not None else torch.stack(by_head, dim=1)

    def stack(self) -> tuple[Float[Tensor, "b *g c w"], list[str]]:
        """Every term and its label: embed, heads, each layer's bias, MLP and the MLP's bias, the head's constant."""
        return self._through(self._terms.coordinates), self.labels

    @property
    def labels(self) -> list[str]:
        """The label of each term of :meth:`stack`."""
        return labels(self.layer, self.readout.n_heads)

    def total(self) -> Float[Tensor, "b *g w"]:
        """The sum of all terms."""
        return self._through(self._terms.coordinates.sum(1))

    def completeness_error(self) -> float:
        """Greatest relative difference ‖total − contribution‖ / ‖contribution‖ over images and heads."""
        own = self._of_length(self._own)
        return float((self._of_length(self._terms.coordinates.sum(1) - self._own) / own).max())

    @full_precision()
    def check(self) -> Upstream:
        """Returns itself.

        Raises:
            CompletenessError: if the terms do not sum to the head's contribution, by more than rounding of the terms.
        """
        sizes = self._of_length(self._terms.coordinates.transpose(0, 1).flatten(0, 1)).unflatten(0, (-1, len(self)))
        off = self._of_length(self._terms.coordinates.sum(1) - self._own) / sizes.sum(0)
        allowed = TOLERANCE[self.rounding]
        if not float(off.max()) <= allowed:
            raise CompletenessError(
                f"What feeds layer {self.layer} does not sum to what its heads add: {float(off.max()):.2e} of the "
                f"terms' size, expected at most {allowed:.0e}. A hook changed what no term says, or there are NaN."
            )
        return self

    def towards(self, texts: Any) -> Upstream:
        """The same terms as dot products with texts: w then counts texts, and nothing of width e is built.

        Args:
            texts: one or more, or a pool; or embeddings, or any directions of the joint space, [t, e].

        Raises:
            ValueError: if the width is not e, a value is not finite, or there is no text, or no tokenizer for one.
        """
        names, embeddings = given_texts(self.readout, texts)
        with full_precision():
            onto = towards(self._maps.joint, embeddings)
        return replace(self, texts=names, _onto=onto)

    def normalized(self) -> Upstream:
        """The same divided by ‖M(I)‖, so that dot products with unit text embeddings are parts of a cosine."""
        if self.unit == "cosine":
            return self
        by = self._norm[:, None, None, None]
        scalars = None if self._terms.scalars is None else self._terms.scalars / by[..., None]
        terms = Terms(self._terms.coordinates / by[..., None], scalars)
        return replace(self, unit="cosine", _terms=terms, _own=self._own / by)

    @full_precision()
    def shares(self) -> Float[Tensor, "b *g c"]:
        """What part of the head's contribution c each term u of :meth:`stack` is: ``u · c / ‖c‖²``; they sum to 1."""
        shares = equations.shares_of_head(self._terms.coordinates.flatten(3), self._own.flatten(2), self._gram)
        return shares[:, 0] if self.head is not None else shares

    def to_dataframe(self) -> pd.DataFrame:
        """One row per image, head and term: image, layer, head, term, share; and a column with each text's score.

        A text that is a column already, or was given twice, has its number added: "share (text 0)".
        """
        shares = self.shares().reshape(len(self), -1, len(self.labels))
        heads = range(self.readout.n_heads) if self.head is None else [self.head]
        index = pd.MultiIndex.from_product([self.names, [self.layer], heads, self.labels])
        table = index.to_frame(index=False, name=["image", "layer", "head", "term"])
        table["share"] = shares.flatten().double().cpu().numpy()
        for t, text in enumerate(self.texts or ()):
            column = text if text not in table else f"{text} (text {t})"
            table[column] = self.stack()[0][..., t].flatten().double().cpu().numpy()
        return table

    def __repr__(self) -> str:
        fed = f"layer {self.layer}" if self.head is None else f"L{self.layer}H{self.head}"
        towards = "" if self.texts is None else f", texts={len(self.texts)}"
        return (
            f"Upstream({fed}, images={len(self)}, terms={len(self.labels)}{towards}, unit={self.unit!r}, "
            f"completeness_error={self.completeness_error():.1e}; {FROZEN})"
        )

    # ------------------------------------------------------------------ pieces

    def _named(self, name: str) -> Float[Tensor, "b *by g p j"]:
        return self._terms.named(self.layer, self.readout.n_heads)[name]

    @full_precision()
    def _through(self, coordinates: Float[Tensor, "b *by g p j"]) -> Float[Tensor, "b *out w"]:
        """Coordinates in the joint space, or towards texts, the heads before what was read."""
        values = through_own(coordinates.flatten(-2), self._onto.flatten(1, 2)).movedim(-2, 1)
        return values[:, 0] if self.head is not None else values

    @full_precision()
    def _of_length(self, coordinates: Float[Tensor, "x g p j"]) -> Float[Tensor, "x g"]:
        """The length of each in the joint space, by ``M Mᵀ``."""
        return quadratic(coordinates.flatten(2).transpose(0, 1), self._gram).clamp(min=0).sqrt().T

    @property
    def _gram(self) -> Float[Tensor, "g pj pj"]:
        return gram(self._maps.joint.flatten(1, 2))


def upstream(
    model: Tower | TransformerBridge,
    images: Any,
    layer: int,
    head: int | None = None,
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> Upstream:
    """The contribution of a head, or of each head of a layer, as an exact sum over everything upstream of it.

    With ā the effective attention of the head (equation 4 of Gandelsman, Efros and Steinhardt, ICLR 2024), σ, γ and β
    of the LayerNorm before it, and M its map to the joint space:

        ``c = Σ_u Σ_i (ā_i / σ_i) u_i C diag(γ) W_V M  +  (Σ_i ā_i) (β W_V + b_V) M``

    where u runs over the embedding, every earlier head, b_O, neuron and MLP bias. Exact for frozen patterns, statistics
    and norm: what u changes in them, and in what lies between, is not in its term.

    Args:
        model: a ``HookedCLIP``, a ``TransformerBridge``, or a text tower ``model.text``. Hooks on it stay in force.
        images: see :func:`~clip_lens_plugin.decomposition.running.runs.decompose_images`; texts for a text tower.
        layer, head: what is fed; every head of the layer, in the same pass, if no head is given. Negative numbers count
            from the end.
        batch_size: images in each run of the model; by the memory that a run takes if not given.
        progress: show a progress bar.

    Raises:
        ValueError: if ``layer`` or ``head`` is no whole number; or there are hooks on the model that change what no
            term says; the message names them.
        IndexError: if there is no such layer or head.
        PixelError: if the images are neither pictures nor pixels of the model's shape.
        CompletenessError: if the terms do not sum to the head's contribution within rounding.
    """
    tower, given, names = given_to(model, images)
    cfg = tower.cfg
    layer = cfg.checked_layer(layer)
    chosen = None if head is None else cfg.checked_head(layer, head)[1]
    heads = range(cfg.n_heads) if chosen is None else range(chosen, chosen + 1)
    refuse_unseen_hooks(tower, [layer])
    every = {l: torch.arange(cfg.d_mlp) for l in range(layer)} or {0: torch.arange(0)}
    size = images_at_once(tower, len(given), every) if batch_size is None else checked_number("batch_size", batch_size)
    keep = dict.fromkeys(kept_for_terms(tower, layer))
    readout = Readout.of(tower)
    maps = HeadMaps.of(readout, layer, heads)
    terms, own, norms, rounding = [], [], [], cfg.dtype
    with torch.no_grad(), given.checked():
        for start in tracked(range(0, len(given), size), "upstream", progress):
            run = frozen_run(tower, given.pixels(slice(start, start + size)), [layer], keep, coordinates=True)
            terms.append(_terms_of(readout, run, layer, heads, maps))
            by_head = run.coordinates[layer][:, heads.start : heads.stop]
            own.append(by_head.unflatten(-1, (readout.pooling.n_heads, -1)))
            norms.append(run.embedding.norm(dim=-1))
            rounding = run.rounding
            del run  # Not to be held while the next is made.
    scalars = [each.scalars for each in terms if each.scalars is not None]
    joined = Terms(torch.cat([each.coordinates for each in terms]), torch.cat(scalars) if scalars else None)
    made = Upstream(
        readout=readout,
        layer=layer,
        head=chosen,
        names=names,
        texts=None,
        unit="embedding",
        rounding=rounding,
        _maps=maps,
        _onto=maps.joint,
        _terms=joined,
        _own=torch.cat(own),
        _norm=torch.cat(norms),
    )
    return made.check()


def _terms_of(readout: Readout, run: FrozenRun, layer: int, heads: Sequence[int], maps: HeadMaps) -> Terms:
    some = slice(heads[0], heads[-1] + 1)
    reads, attended = run.reads[layer][:, some], run.attended[layer][:, some]
    return read_terms(readout, run.kept, layer, maps.values, maps.constant, reads, attended)
