"""What the parts of an embedding are, kept as factors: of :mod:`clip_lens_plugin.decomposition.running.runs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.arguments import checked_indices
from clip_lens_plugin.datasets.given_pictures import GivenPictures
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.analysed import Analysed
from clip_lens_plugin.decomposition.completeness import CompletenessError as CompletenessError
from clip_lens_plugin.decomposition.completeness import images_in_piece, refuse_incomplete, relative_errors, summed
from clip_lens_plugin.decomposition.constants import GivenConstants, checked_constants
from clip_lens_plugin.decomposition.parts.component_values import ComponentValues
from clip_lens_plugin.decomposition.parts.parts import JoinedParts, Parts
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.decomposition.running.activations import Factors, MissingActivationsError, TokensNotAvailableError
from clip_lens_plugin.images.photographs import Photographs
from clip_lens_plugin.numerics.precision import full_precision, same_up_to

Own = TypeVar("Own", bound="Contributions")
Sums = TypeVar("Sums")

MOST_MEASURED_TO_SHOW = 32
"""Images whose parts are summed for the sake of ``repr``."""

TOKENS_NOT_KEPT = (
    "Single tokens were not kept: decompose(images, tokens=True), or a cache with attn.hook_pattern and attn.hook_v."
)


class Contributions(ComponentValues, Analysed["Contributions"]):
    """What every component adds to the embedding M(I) of b images, kept as factors until it is asked for.

    Made by :func:`decompose` or :func:`decompose_images`, or read from a store; what a store does not keep (single
    tokens, neurons, edits) only a run has. l layers, h heads, n tokens, e joint width, t texts. Every
    tensor is float32, or float64 for a float64 model. Values are in the unit of the unnormalised embedding, or of
    a cosine after :meth:`normalized`; see :attr:`unit`.

    Attributes:
        constants: "separate", or "shared" as in the paper's code: see :func:`decompose`.
        counted: what the b rows are: images or texts.
    """

    counted = "images"

    def __init__(
        self,
        readout: Readout,
        parts: Parts,
        constants: GivenConstants = "separate",
        divisor: Float[Tensor, " b"] | None = None,
        errors: Float[Tensor, " b"] | None = None,
    ) -> None:
        """Of the model's folded weights, ``readout``, and the factors of every component, ``parts``.

        ``divisor`` divides each row; ``errors`` are the relative completeness errors, where they were measured.
        """
        super().__init__(readout, parts, constants, divisor)
        self._errors = errors
        self._given: tuple[Any, ...] | None = None

    @property
    def photographs(self) -> Photographs | None:
        """The pictures that were decomposed; None if pixels or a cache were."""
        return self._given

    @classmethod
    def of_run(cls: type[Own], readout: Readout, factors: Factors, constants: GivenConstants = "separate") -> Own:
        """Contributions of the run that left these factors, with how far they are from summing to the embedding.

        Args:
            readout, factors: of the model, and what was recorded of its run.
            constants: "separate" or "shared".
        """
        made = cls(readout, Parts.of(readout, factors), constants)
        made.completeness_error()
        return made

    @classmethod
    def joined(cls: type[Own], runs: Iterable[Contributions], n: int, given: tuple[Any, ...] | None = None) -> Own:
        """Contributions of n images from their runs, of which none is kept.

        Args:
            runs, n: contributions by one model, in the order of the images; and the number of all images.
            given: what each image is; None if it is not known.

        Raises:
            ValueError: if there is no run.
        """
        parts, errors, divisors, made = JoinedParts(n), [], [], None
        for run in runs:
            parts.add(run._parts)
            errors.append(run._measured())
            divisors += [] if run._divisor is None else [run._divisor]
            made = run._readout, run.constants
            del run  # Not to be held while the next is made.
        if made is None:
            raise ValueError("There is no run to join.")
        divisor = torch.cat(divisors) if divisors else None
        return cls(made[0], parts.whole(), made[1], divisor, torch.cat(errors))._of(given)

    @full_precision()
    def tokens(self, layer: int, head: int) -> Float[Tensor, "b n e"]:
        """c[b, i, l, h]: the contribution of each source token through one head (equation 4).

        Raises:
            TokensNotAvailableError: if they were not kept, or a hook replaced the head's output.
            IndexError: if there is no such layer or head.
            ValueError: if one is no whole number.
        """
        layer, head = self._readout.model.cfg.checked_head(layer, head)
        weighted = self._token_coordinates(layer)[:, :, head]
        head_map = self._readout.head_map(layer, head, self.constants)
        by_token = equations.contribution(weighted, head_map[: self._readout.own_coordinates])
        return by_token if self._shared is None else by_token + self._shared.of_token(weighted.shape[1])[:, layer, None]

    @full_precision()
    def attention(self, layer: int, head: int) -> Float[Tensor, "b n"]:
        """How much of a head's effective attention ā (equation 4) is each source token's: from 0 to 1, they sum to 1.

        Where the class token is read, that is its row of the pattern; else the mean of the rows that are read, each
        weighted as the readout weights it.

        Raises:
            TokensNotAvailableError: if tokens were not kept.
            IndexError: if there is no such layer or head.
            ValueError: if one is no whole number.
        """
        layer, head = self._readout.model.cfg.checked_head(layer, head)
        if self._parts.attended is None:
            raise TokensNotAvailableError(TOKENS_NOT_KEPT)
        weights = self._parts.attended[:, layer, :, head].sum(-1)
        return weights / weights.sum(-1, keepdim=True)

    @full_precision()
    def by_token(self) -> Float[Tensor, "b n e"]:
        """What each source token adds through all heads together: the sum of :meth:`tokens` over layers and heads.

        Raises:
            TokensNotAvailableError: see :meth:`tokens`.
        """
        streams = [
            self._readout.layer_stream(self._token_coordinates(layer).flatten(0, 1), layer)
            for layer in range(self.n_layers)
        ]
        added = self._readout.to_joint(torch.stack(streams).sum(0), self.constants).unflatten(0, (len(self), -1))
        if self._shared is None:
            return added
        return added + self._readout.n_heads * self._shared.of_token(added.shape[1]).sum(1)[:, None]

    @full_precision()
    def neurons(self, layer: int) -> Float[Tensor, "b d_mlp e"]:
        """The contribution of each neuron; they sum to the layer's MLP less its output bias.

        Raises:
            MissingActivationsError: if they were not kept.
            IndexError: if there is no such layer.
            ValueError: if it is no whole number.
        """
        layer = self._readout.model.cfg.checked_layer(layer)
        if self._parts.neurons is None:
            raise MissingActivationsError(
                "Neurons were not kept: decompose(images, neurons=True), or a cache with mlp.hook_post."
            )
        weights = self._readout.through_each(self._readout.W_out(layer), self.constants)
        return equations.neuron_contributions(self._in_unit(self._parts.neurons[:, layer]), weights)

    # ------------------------------------------------------------------ towards texts

    @full_precision()
    def towards(
        self, text_embeddings: Float[Tensor, "t e"], per_token: bool = False
    ) -> Float[Tensor, "b l h t"] | Float[Tensor, "b l h n t"]:
        """Dot products of the contributions of heads, or of tokens, with text embeddings.

        ``M_{l,h} e_t`` has k numbers, so nothing of width e is built.

        Args:
            text_embeddings: unit vectors, as ``model.encode_text`` returns them; or any directions, such as the
                difference of two.
            per_token: split each head's score over the source tokens.

        Raises:
            TokensNotAvailableError: see :meth:`tokens`.
            ValueError: if the width is not e, or a value is NaN or infinite.
        """
        texts = self._readout.checked_texts(text_embeddings, of_unit_length=False)
        directions = self._readout.directions(texts, self.constants)
        layers = range(self.n_layers)
        if per_token:
            own = directions[:, :, : self._readout.own_coordinates]
            split = [equations.token_scores(self._token_coordinates(l), own[l]) for l in layers]
            by_token = torch.stack(split, dim=1)
            if self._shared is None:
                return by_token
            shared = equations.towards(self._shared.of_token(by_token.shape[3]), texts)
            return by_token + shared[:, :, None, None]
        whole = equations.head_scores(self.head_coordinates, directions)
        for l, edit in self.head_edits.items():
            whole[:, l] += equations.towards(edit, texts)
        return whole

    def normalized(self: Own) -> Own:
        """The same divided by ‖M(I)‖, so that dot products with a unit text embedding add up to the cosine.

        ``model.logit_scale`` times their sum, plus ``model.logit_bias``, is CLIP's logit. The norm is frozen: ablations
        do not change it.
        """
        if self._divisor is not None:
            return self
        norm = self.embedding.norm(dim=-1)
        return type(self)(self._readout, self._parts, self.constants, norm, self._errors)._of(self._given)

    def with_constants(self: Own, constants: GivenConstants) -> Own:
        """The same images, their constants kept as components of their own ("separate") or shared out ("shared").

        Raises:
            ValueError: if they are to be shared out and what they are made of was not kept, as in a store.
        """
        if checked_constants(constants) == self.constants:
            return self
        return type(self)(self._readout, self._parts, constants, self._divisor, self._errors)._of(self._given)

    def _of(self: Own, given: tuple[Any, ...] | None) -> Own:
        """Itself, which from now on knows what it is of: one picture per image."""
        self._given = given
        return self

    def select(self: Own, rows: Any) -> Own:
        """The contributions of some of the images, in the given order.

        Args:
            rows: a slice or range, positions (negative ones count from the end), or a mask with one truth value per
                image; as a list, an array or a tensor.

        Raises:
            ValueError: if it is none of these.
            IndexError: if there is no such image, or the mask has another length.
        """
        return self._rows(checked_indices("image", rows, len(self)))

    # ------------------------------------------------------------------ as data that is analysed

    @property
    def labels(self) -> None:
        """None: contributions know no labels."""

    @property
    def classes(self) -> None:
        """None, as :attr:`labels`."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of what was decomposed; None if not known."""
        return None if self._given is None else tuple(each.name for each in self._given)

    @property
    def provenance(self) -> None:
        """None: contributions do not know where their images are from."""

    def own_source(self) -> GivenPictures | None:
        """:attr:`photographs`, as a data set."""
        return None if self._given is None else GivenPictures(self._given)

    def blocks(self) -> Iterator[range]:
        """All rows at once, since they are in memory."""
        yield from [range(len(self))] if len(self) else []

    def kept(self, statistic: type[Sums]) -> Sums | None:
        """None, whatever the ``statistic``: sums are taken of the rows."""
        return None

    def greatest_error(self) -> float:
        """The greatest completeness error, as it was measured last."""
        return float(self._measured().max())

    # ------------------------------------------------------------------ sums

    def stack(self) -> tuple[Float[Tensor, "b c e"], list[str]]:
        """Every component and its label: embed, each head, each layer's bias and MLP, edits, extras, ln_bias."""
        parts = [self.embed[:, None], self.heads.flatten(1, 2), self.attn_bias, self.mlps]
        layers = range(self.n_layers)
        labels = ["embed"]
        labels += [f"L{l}H{h}" for l in layers for h in range(self._readout.n_heads)]
        labels += [f"{l}_attn_bias" for l in layers] + [f"{l}_mlp" for l in layers]
        if self._parts.edits is not None:
            parts.append(self.edits)
            labels += [f"{l}_edits" for l in layers]
        after = {**self.extra_components, "ln_bias": self.ln_bias}
        return torch.cat([*parts, *(part[:, None] for part in after.values())], dim=1), [*labels, *after]

    def total(self) -> Float[Tensor, "b e"]:
        """The sum of all components, taken without building each of them."""
        return torch.cat([summed(piece) for piece in self._pieces()])

    def completeness_error(self) -> float:
        """Greatest relative difference ‖total − M(I)‖ / ‖M(I)‖ over the images, NaN if a part is.

        Computed anew at each call, a few images at a time, since the parts are read through the model's weights as they
        are now. ``repr`` shows the error measured last, at first while the model ran.
        """
        self._errors = torch.cat([relative_errors(piece) for piece in self._pieces()])
        return float(self._errors.max())

    def check(self: Own) -> Own:
        """Returns itself.

        Raises:
            CompletenessError: if the parts do not sum to the embedding within :data:`TOLERANCE`, as measured while the
                model ran.
        """
        refuse_incomplete(self._measured(), self._parts.rounding, self._readout.model_dtype)
        return self

    def refuse_result_edits(self) -> None:
        """Raises ValueError if a hook on ``hook_result`` moved a head out of what its coordinates can say."""
        edited = [f"layer {l}" for l in sorted(self._parts.head_edits)]
        if edited:
            raise ValueError(
                f"A hook on hook_result changed heads of {', '.join(edited)}, so their coordinates do not tell what "
                f"they write. Edit hook_z instead."
            )

    def __repr__(self) -> str:
        batch, width = self._parts.embedding.shape
        heads = self._readout.n_heads
        error = "not measured" if (errors := self._shown_errors()) is None else f"{float(errors.max()):.1e}"
        return (
            f"{type(self).__name__}({self.counted}={batch}, layers={self.n_layers}, heads={heads}, width={width}, "
            f"unit={self.unit!r}, constants={self.constants!r}, completeness_error={error})"
        )

    # ------------------------------------------------------------------ pieces

    def _rows(self: Own, rows: Int[Tensor, " s"] | slice) -> Own:
        """Some of the images: copies, or views of a slice."""

        def at(x: Tensor | None) -> Tensor | None:
            return x if x is None else x[rows if isinstance(rows, slice) else rows.to(x.device)]

        picked = at(self._divisor), at(self._errors)
        made = type(self)(self._readout, self._parts.select(rows), self.constants, *picked)
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        return made if self._given is None else made._of(tuple(self._given[row] for row in chosen))

    def _pieces(self: Own) -> Iterator[Own]:
        """All images, a few at a time, without copying their parts."""
        step = images_in_piece(self._parts.coordinates, self._parts.mlps)
        return (self._rows(slice(start, start + step)) for start in range(0, len(self), step))

    def _shown_errors(self) -> Float[Tensor, " b"] | None:
        """The error as measured last; measured now for a few rows of a store, which come without; else None."""
        if self._errors is None and 0 < len(self) <= MOST_MEASURED_TO_SHOW:
            with suppress(ValueError):  # The model's weights were changed.
                self.completeness_error()
        return self._errors

    def _measured(self) -> Float[Tensor, " b"]:
        if self._errors is None:
            self.completeness_error()
        assert self._errors is not None
        return self._errors

    @full_precision()
    def _token_coordinates(self, layer: int) -> Float[Tensor, "b n h pk"]:
        """ā ⊙ v, of which a head's coordinates are the sum over tokens; zero for a head that a hook ablated."""
        if self._parts.attended is None or self._parts.values is None:
            raise TokensNotAvailableError(TOKENS_NOT_KEPT)
        attended = self._in_unit(self._parts.attended[:, layer])
        values = self._parts.values[:, layer].to(attended.dtype)
        split = equations.token_coordinates(attended, values)
        if self._parts.hooked is not None and layer not in self._parts.hooked:
            return split
        coordinates = self._in_unit(self._parts.coordinates[:, layer])
        ablated = (coordinates == 0).all(-1)
        if self._parts.hooked is None:  # Of a cached run, whose hooks are gone, it is seen from the numbers.
            allowed = same_up_to(self._parts.rounding) * split.norm(dim=-1).sum(1)
            replaced = ((split.sum(1) - coordinates).norm(dim=-1) > allowed) & ~ablated
        else:
            replaced = self._parts.replaced[layer]
        if layer in self._parts.head_edits:
            replaced = replaced | (self._parts.head_edits[layer] != 0).any(-1)
        if bool(replaced.any()):
            heads = [f"L{layer}H{h}" for h in replaced.any(0).nonzero().flatten().tolist()]
            raise TokensNotAvailableError(
                f"A hook replaced the output of {heads}, so it cannot be split over tokens. Edit hook_v or "
                f"hook_pattern instead, or ask for whole heads."
            )
        return split.masked_fill(ablated[:, None, :, None], 0.0)


Data = Analysed[Contributions]
"""What analyses take: :class:`Contributions`, or a store of them."""
