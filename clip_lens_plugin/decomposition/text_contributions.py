"""What the parts of a text embedding are, down to its words."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.model.text.spelling import Spelt


class TextContributions(Contributions):
    """What every component of a text tower adds to the embedding T of b texts; n tokens are those of a text.

    All that :class:`~clip_lens_plugin.decomposition.contributions.Contributions` has, read "text" for "image", and
    words. Made by :func:`decompose_text`, or by ``decompose(model.text, cache)``, which knows no words.
    """

    counted = "texts"

    @property
    def photographs(self) -> None:
        """None: these are texts."""

    @property
    def spelt(self) -> tuple[Spelt, ...]:
        """Each text's tokens and words.

        Raises:
            ValueError: if they are not known, as of a cache.
        """
        if self._given is None:
            raise ValueError(
                "Which words these are contributions of is not known of a cache: decompose_text(model, texts) keeps "
                "them, and so does decompose_text with hooks on model.text."
            )
        return self._given

    def words(self, layer: int, head: int) -> list[Float[Tensor, "w e"]]:
        """The contribution of each word through one head, for each text: the sum over the word's tokens.

        The words are those of :attr:`spelt`, what the tokenizer adds among them.

        Args:
            layer, head: negative ones count from the end.

        Raises:
            TokensNotAvailableError, IndexError, ValueError: see :meth:`tokens` and :attr:`spelt`.
        """
        return self._over_words(self.tokens(layer, head))

    def by_word(self) -> list[Float[Tensor, "w e"]]:
        """What each word adds through all heads together, for each text; see :meth:`by_token` and :meth:`words`."""
        return self._over_words(self.by_token())

    def _over_words(self, by_token: Float[Tensor, "b n e"]) -> list[Float[Tensor, "w e"]]:
        rows = zip(self.spelt, by_token, strict=True)
        return [over_words(text, row) for text, row in rows]


def over_words(text: Spelt, by_token: Float[Tensor, "n *rest"]) -> Float[Tensor, "w *rest"]:
    """The sum over each word's tokens."""
    return torch.stack([by_token[word.tokens.start : word.tokens.stop].sum(0) for word in text.words])
