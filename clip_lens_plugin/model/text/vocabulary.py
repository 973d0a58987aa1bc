"""Text labels as a model's vocabulary, under TransformerLens's names.

Where text meets the stream: a label t with text embedding e_t has the residual direction γ ⊙ (P e_t).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.arguments import checked_index, checked_texts
from clip_lens_plugin.layers.config import HookedCLIPConfig
from clip_lens_plugin.layers.pooling.attention_pool import AttentionPool
from clip_lens_plugin.model.identity.probes import PROBE_TOLERANCE, is_same_probe
from clip_lens_plugin.model.property_errors import NotAvailableError
from clip_lens_plugin.model.text.labels import Labels
from clip_lens_plugin.model.text.unembed import Unembed


class Vocabulary:
    """Labels of a model with ``W_P``, ``pooling`` and ``ln_final``."""

    cfg: HookedCLIPConfig
    labels: Labels | None
    if TYPE_CHECKING:
        ln_final: Any
        pooling: Any
        W_P: Any
        b_P: Any
        encode_text: Any
        text_probe: Any
        text_state: Any

    def set_labels(self, names: Iterable[str], embeddings: Float[Tensor, "t e"] | None = None) -> None:
        """Makes texts the vocabulary: ``W_U``, ``to_single_token``, ``logit_attrs`` and the logit lens use them.

        Args:
            names: a list of the labels, each once.
            embeddings: their unit embeddings; those of the names themselves if not given.

        Raises:
            ValueError: see :class:`~clip_lens_plugin.model.text.labels.Labels`; or embeddings of another width, one
                string instead of a list.
        """
        names = checked_texts("set_labels", names)
        rows: Tensor = self.encode_text(names) if embeddings is None else embeddings
        probe = self.text_probe() if embeddings is None else None
        if rows.shape[-1] != self.cfg.d_embed:
            raise ValueError(
                f"Label embeddings must be {self.cfg.d_embed} wide as {self.cfg.model_name}'s joint space, got "
                f"{rows.shape[-1]}."
            )
        self.labels = Labels(tuple(names), rows.to(self.cfg.device, self.cfg.dtype), probe)
        self.cfg.d_vocab = len(self.labels.names)

    def _required_labels(self) -> Labels:
        if self.labels is None:
            raise NotAvailableError(
                "No text labels are set. Call model.set_labels(['a dog', 'a cat']) first: they are to a CLIP "
                "what the vocabulary is to a language model."
            )
        return self.labels

    def _current_labels(self) -> Labels:
        """The labels, whose embeddings are still what the text tower gives.

        Raises:
            ValueError: if the text tower was changed since they were embedded.
        """
        labels = self._required_labels()
        if labels.probe is None:
            return labels
        seen = (id(labels), *self.text_state())
        if getattr(self, "_labels_seen", None) == seen:
            return labels
        dtypes = (labels.rounded_to or self.cfg.dtype, self.cfg.dtype)
        if not is_same_probe(self.text_probe(), labels.probe, max(dtypes, key=PROBE_TOLERANCE.__getitem__)):
            raise ValueError(
                f"The text tower of {self.cfg.model_name} was changed after the labels were embedded: it gives "
                f"something else for the same texts now. Set them again, model.set_labels(names), or give embeddings "
                f"of your own, model.set_labels(names, embeddings)."
            )
        self._labels_seen = seen
        return labels

    def _refuse_attention_pool(self) -> None:
        if isinstance(self.pooling, AttentionPool):
            raise NotAvailableError(
                f"{self.cfg.model_name} pools by attention, so a text has no one direction in the stream: it depends "
                f"on what the pool attends to in each image. Use model.decompose(images).towards(text_embeddings)."
            )

    @property
    def W_U(self) -> Float[Tensor, "d t"]:
        """P Eᵀ: from ``ln_final``'s output to dot products of M(I) with the labels' unit embeddings.

        Raises:
            NotAvailableError: a ValueError and AttributeError, if no labels are set, or attention pools: then each
                pool head has a map of its own, weighted by what it attends to in the image.
            ValueError: if the text tower was changed since it embedded the labels.
        """
        self._refuse_attention_pool()
        return self.W_P.to(self.cfg.dtype) @ self._current_labels().embeddings.T

    @property
    def b_U(self) -> Float[Tensor, " t"]:
        """E b_P: what the projection's own bias adds; zeros where it has none. Raises as :attr:`W_U`."""
        self._refuse_attention_pool()
        if self.b_P is None:
            embeddings = self._required_labels().embeddings
            return embeddings.new_zeros(len(embeddings))
        return self.logits(self.b_P.to(self.cfg.dtype))

    @property
    def unembed(self) -> Unembed:
        """From ``ln_final``'s output to the labels: an object with ``W_U`` and ``b_U`` that is called."""
        return Unembed(self)

    def refuse_without_labels(self) -> None:
        """Raises NotAvailableError if no labels are set; ValueError if the text tower was changed since."""
        self._current_labels()

    def logits(self, embedding: Float[Tensor, "*b e"]) -> Float[Tensor, "*b t"]:
        """M(I) · e_t for each label, from the embedding. CLIP's logit, with norm, scale and bias, is a classifier's.

        Raises:
            NotAvailableError: if no labels are set.
            ValueError: if the text tower was changed since it embedded the labels.
        """
        return embedding @ self._current_labels().embeddings.T

    def to_single_token(self, label: str) -> int:
        """Position of a label. Raises ValueError for an unknown one."""
        return self._required_labels().index(label)

    def to_tokens(self, labels: str | list[str]) -> Int[Tensor, " t"]:
        """Positions of labels. Raises ValueError for an unknown one."""
        labels = [labels] if isinstance(labels, str) else labels
        return torch.tensor([self.to_single_token(label) for label in labels], device=self.cfg.device)

    def to_string(self, tokens: Any) -> str | list[Any]:
        """The label at a position; a list of them where there are several, shaped as the positions are.

        Args:
            tokens: a position, or positions in a list, array or tensor.

        Raises:
            NotAvailableError: if no labels are set.
            ValueError: if they are no whole numbers.
            IndexError: for a position outside the labels.
        """
        labels = self._required_labels()
        found = labels.indices(tokens)
        if isinstance(found, Tensor) and found.numel() != 1:
            return _named(found.tolist(), labels.names)
        return labels.names[int(found)]

    def to_str_tokens(self, input: Any) -> list[Any]:
        """The labels at positions, as a list. A label stands for itself; a list of labels gives a list of lists.

        Args:
            input: positions or labels.

        Raises as :meth:`to_string`, and ValueError for an unknown label.
        """
        if isinstance(input, list | tuple) and any(isinstance(each, str) for each in input):
            return [self.to_str_tokens(each) for each in input]
        found = self.to_string(input)
        return [found] if isinstance(found, str) else found

    def to_single_str_token(self, int_token: int) -> str:
        """The label at the position ``int_token``. Raises as :meth:`to_string`."""
        labels = self._required_labels()
        return labels.names[checked_index("label", int_token, len(labels.names))]

    def tokens_to_residual_directions(
        self, tokens: str | int | list[str] | Int[Tensor, "..."]
    ) -> Float[Tensor, "... d"]:
        """γ ⊙ (P e_t): the stream's direction of a label, for a centred and scaled stream as in ``logit_attrs``.

        Args:
            tokens: a label, its position, or several of them.

        Raises:
            ValueError: no labels are set, an unknown one, attention pools, or the text tower was changed (see
                :attr:`W_U`).
            IndexError: a position outside the labels.
        """
        self._refuse_attention_pool()
        labels = self._current_labels()
        chosen = labels.embeddings[labels.indices(tokens)]
        return (chosen @ self.W_P.to(chosen.dtype).T) * self.ln_final.w


def _named(positions: Any, names: tuple[str, ...]) -> Any:
    return [_named(each, names) if isinstance(each, list) else names[each] for each in positions]
