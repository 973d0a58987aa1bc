"""Constants that are shared out over heads and MLPs: an image's weights times directions that are fixed."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.constants import Constants
from clip_lens_plugin.decomposition.parts.parts import Parts, Shares
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.numerics.precision import full_precision


@dataclass(frozen=True)
class SharedOut:
    """What each part of b images has more than it has without, in the unit of the divisor."""

    readout: Readout
    shares: Shares
    divisor: Float[Tensor, " b"]

    @classmethod
    def of(
        cls, readout: Readout, parts: Parts, constants: Constants, divisor: Float[Tensor, " b"] | None
    ) -> SharedOut | None:
        """None if the constants are components of their own.

        Raises:
            ValueError: if they are to be shared out and what they are made of was not kept.
        """
        if constants == "separate":
            return None
        if parts.shares is None:
            raise ValueError(
                "The constants cannot be shared out over these contributions: the means of the stream, which they are "
                "made of, were not kept (a store keeps none). Decompose the images with "
                "constants='shared': model.decompose(images, constants='shared'); moments for text_span are then "
                "Moments.from_contributions(contributions), summed over batches."
            )
        one = parts.embedding.new_ones(len(parts.embedding))
        return cls(readout, parts.shares, one if divisor is None else divisor)

    @property
    def weights(self) -> Float[Tensor, "b l s"]:
        """A head's coordinates beyond its own; see :func:`~clip_lens_plugin.decomposition.equations.share_weights`."""
        return self.shares.weights / self.divisor[:, None, None]

    def weights_of(self, n_heads: int) -> Float[Tensor, "b l h s"]:
        """The same for each head."""
        return self.weights[:, :, None].expand(-1, -1, n_heads, -1)

    @property
    @full_precision()
    def head(self) -> Float[Tensor, "b l e"]:
        """What each head of a layer has: its equal part of the layer's term, and of b_O."""
        return equations.by_layer(self.weights, self.readout.share_directions)

    def of_token(self, n_tokens: int) -> Float[Tensor, "b l e"]:
        """What each token has of a head's part: tokens share it equally."""
        return self.head / n_tokens

    @property
    def mlps(self) -> Float[Tensor, "b l e"]:
        """What each MLP has: its own mean, and its term."""
        return self._mean(self.shares.mlps) + self._term[:, None]

    @property
    def embed(self) -> Float[Tensor, "b e"]:
        """What the stream that enters block 0 has: its own mean, and its term."""
        return self._mean(self.shares.embed[:, None])[:, 0] + self._term

    @property
    def self_attention(self) -> Float[Tensor, "b l e"]:
        """What the class token's message to itself has: its own mean, and one token's part of the heads'."""
        assert self.shares.self_attention is not None
        of_heads = self.readout.n_heads * self.of_token(self.readout.model.cfg.n_ctx)
        return self._mean(self.shares.self_attention) + of_heads

    @property
    def edits(self) -> Float[Tensor, "b l e"]:
        """What each layer's edits have: their own mean."""
        assert self.shares.edits is not None
        return self._mean(self.shares.edits)

    def head_edit(self, layer: int) -> Float[Tensor, "b h e"]:
        """What the edits of a layer's heads have: their own mean."""
        return self._mean(self.shares.head_edits[layer])

    @property
    @full_precision()
    def _term(self) -> Float[Tensor, "b e"]:
        """What each of the 2 L + 1 terms has of the last stream's mean and of β."""
        directions = self.readout.term_directions
        return equations.contribution(self.weights[:, 0, : len(directions)], directions)

    @full_precision()
    def _mean(self, means: Float[Tensor, "b l p"]) -> Float[Tensor, "b l e"]:
        return equations.contribution(means / self.divisor[:, None, None], self.readout.mean_directions)
