"""A CLIP text encoder as a TransformerLens model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clip_lens_plugin.adapters.checks.source_check import SourceCheck
from clip_lens_plugin.adapters.checks.structure import refuse_mixed_dtypes
from clip_lens_plugin.adapters.choose import text_parts, text_tower
from clip_lens_plugin.arguments import checked_texts
from clip_lens_plugin.layers.config import HookedTextConfig
from clip_lens_plugin.layers.hook_point import HookPoint
from clip_lens_plugin.layers.pooling.token_pooling import POSITION, FirstOf
from clip_lens_plugin.model.hooked_tower import HookedTower
from clip_lens_plugin.model.hooks.run_arguments import checked_stop
from clip_lens_plugin.model.identity.verification import Verification, can_verify, unnormalised, verified_texts
from clip_lens_plugin.model.property_errors import NotAvailableError
from clip_lens_plugin.model.protocol import Begun, TextModel
from clip_lens_plugin.model.text.spelling import Spelt, spelt

if TYPE_CHECKING:
    from clip_lens_plugin.decomposition.text_contributions import TextContributions

SEED = 0


class HookedText(HookedTower, TextModel):
    """A CLIP text tower with TransformerLens's hooks, weights and cache: ``model.text`` of a ``HookedCLIP``.

    ``text(["a dog"])`` or ``text(ids)`` is the source's own ``encode_text``: the embedding [t, e], not normalised, in
    the weights' dtype. No weight is copied. The hook points are those of a
    :class:`~clip_lens_plugin.model.hooked_clip.HookedCLIP`, with the tokens of a text in the place of patches:
    ``hook_embed`` [t, n, d] is the stream that enters block 0, tokens and positions together. ``hook_position`` [t] is
    the position of the token that is pooled. Where the source has a mask, ``hook_attn_scores`` holds minus infinity
    where a token does not see another.

    Args:
        clip: the open_clip model, or a Hugging Face model in its shape.
        tokenizer: texts to token ids [t, n], or None: then token ids are taken alone.
        model_name: as shown.

    Attributes:
        clip: the source's modules of the text tower.
        cfg: the tower's shape, see :class:`~clip_lens_plugin.layers.config.HookedTextConfig`.
        tokenizer: texts to token ids, or None.
        verified: what :meth:`verify` found when the tower was wrapped; None on the meta device.

    Raises:
        UnsupportedTowerError: if the text tower is of another architecture, or has a feature that is not supported.
        SourceMismatchError: if it does not give the source's own embeddings.
        ValueError: if a weight is NaN or infinite.
    """

    cfg: HookedTextConfig

    def __init__(
        self,
        clip: nn.Module,
        tokenizer: Callable[[list[str]], Tensor] | None = None,
        model_name: str = "open_clip model",
    ) -> None:
        tower = text_tower(clip, model_name)
        super().__init__(tower, text_parts(tower, model_name))
        self.tokenizer = tokenizer
        self._whole: Any = (clip,)  # In a tuple it is no child: its images are not this model's.
        self.hook_position = HookPoint()
        self.setup()
        self.eval()
        self._source = SourceCheck.of_text(clip, tower, model_name)
        self.verified: Verification | None = self.verify() if can_verify(self) else None

    # ------------------------------------------------------------------ running

    def forward(
        self,
        texts: str | Sequence[str] | Int[Tensor, "t n"],
        return_type: str | None = "embedding",
        stop_at_layer: int | None = None,
    ) -> Float[Tensor, "t *rest"] | None:
        """The embeddings of texts [t, e], not normalised, equal to the source's ``encode_text``.

        Args:
            texts: one or more; or token ids, padded to ``cfg.context_length``.
            return_type: None for nothing.
            stop_at_layer: gives the stream [t, n, d] that enters this block instead, and runs nothing after it;
                ``n_layers`` gives the last stream.

        Raises:
            ValueError: if there is no text, or no tokenizer for one; if token ids are of another length, or are none of
                the vocabulary's; or for another ``return_type``.
            IndexError: for a layer that there is not.
        """
        if return_type not in ("embedding", None):
            raise ValueError(
                f"A text tower gives its embedding, or nothing (None), got return_type={return_type!r:.40}: it has no "
                f"next token, and labels are the image tower's."
            )
        ids, stop = self.to_tokens(texts), checked_stop(stop_at_layer, self.cfg.n_layers)
        with self._run_lock:
            try:
                begun = self.begin(ids)
                x, mask, read = begun.stream, begun.mask, begun.read
                del begun  # Its stream is not to be held while later blocks run.
                for layer, block in enumerate(self.blocks):
                    if layer == stop:
                        return x
                    x = block(x, mask)
                if stop is not None:
                    return x
                embedding = self.finish(x, read)
            except RuntimeError:
                refuse_mixed_dtypes(self.clip, self.cfg.model_name, "text")
                raise
        return None if return_type is None else embedding

    def begin(self, texts: str | Sequence[str] | Int[Tensor, "t n"]) -> Begun:
        """A run on texts, as far as block 0. Raises ValueError and SourceMismatchError as the whole run."""
        ids = self.to_tokens(texts)
        with self._run_lock:
            self.check_source()
            x, mask = self._parts.embed(ids)
            position = self.hook_position(self._parts.position(ids))
            return Begun(self.hook_embed(x), mask, {POSITION: position})

    def verify(self, texts: str | Sequence[str] | Int[Tensor, "t n"] | None = None) -> Verification:
        """The embeddings' difference from the source's own ``encode_text``, which is at most rounding.

        Args:
            texts: one or more, or token ids; two rows of token ids drawn from a seed if not given.

        Raises:
            SourceMismatchError: if the difference is more than rounding in the weights' dtype; the message names the
                first block at which the two streams part.
            ValueError: if hooks are on the text tower; see :meth:`forward`.
        """
        ids = self._probe() if texts is None else self.to_tokens(texts)
        return verified_texts(self, ids, self._source_embedding, probe=texts is None)

    def check_source(self) -> None:
        """Does nothing if the text tower's modules are as they were wrapped; needs no run.

        Raises:
            SourceMismatchError: if one has a hook or a forward of its own, another part or setting than when it was
                wrapped, or drops values in training mode.
        """
        _check_outside_of_graphs(self)

    def decompose(self, texts: Any, **kwargs: Any) -> TextContributions:
        """The contributions of texts, as :func:`~clip_lens_plugin.decomposition.running.text_runs.decompose_text` gives
        them, which takes the ``kwargs``.
        """
        from clip_lens_plugin.decomposition.running.text_runs import decompose_text

        return decompose_text(self, texts, **kwargs)

    # ------------------------------------------------------------------ tokens

    def to_tokens(self, texts: str | Sequence[str] | Int[Tensor, "t n"]) -> Int[Tensor, "t n"]:
        """Token ids, padded to ``cfg.context_length``, on the weights' device. Token ids are looked at and kept.

        Raises:
            ValueError: see :meth:`forward`.
        """
        cfg = self.cfg
        takes = f"{cfg.model_name}'s text tower takes texts, or token ids of shape [texts, {cfg.context_length}]"
        if not isinstance(texts, Tensor):
            texts = checked_texts("The text tower", [texts] if isinstance(texts, str) else texts)
            if self.tokenizer is None:
                raise ValueError(
                    f"{cfg.model_name} was wrapped without a tokenizer, so it cannot read text. Give one, "
                    f"open_clip.get_tokenizer(name), or give token ids."
                )
            texts = self.tokenizer(texts)
        ids = texts
        if ids.is_floating_point() or ids.ndim != 2 or ids.shape[1] != cfg.context_length or len(ids) == 0:
            raise ValueError(f"{takes}, got {ids.dtype} of shape {list(ids.shape)}. A tokenizer pads them so.")
        if not torch.compiler.is_compiling() and not ids.is_meta:
            least, most = (int(each) for each in ids.aminmax())
            if least < 0 or most >= cfg.d_vocab:
                raise ValueError(
                    f"{cfg.model_name}'s text tower knows token ids from 0 to {cfg.d_vocab - 1:,}, got "
                    f"{least if least < 0 else most:,}. Give it the model's own tokenizer."
                )
        return ids.to(cfg.device)

    def to_str_tokens(self, texts: str | Sequence[str] | Int[Tensor, "t n"]) -> list[str] | list[list[str]]:
        """The tokens of a text in letters, with what the tokenizer adds in brackets; a list of them for several."""
        found = [list(each.tokens) for each in self.spelt(texts)]
        return found[0] if isinstance(texts, str) else found

    def spelt(self, texts: str | Sequence[str] | Int[Tensor, "t n"]) -> tuple[Spelt, ...]:
        """Each text's tokens, and which of them make a word."""
        ids = self.to_tokens(texts)
        named = None if isinstance(texts, Tensor) else [texts] if isinstance(texts, str) else list(texts)
        return spelt(self.tokenizer, ids, named, self.cfg.has_class_token)

    @property
    def W_E(self) -> Float[Tensor, "v d"]:
        """The embedding of each token id."""
        return self._parts.embed.tokens.weight

    @property
    def W_U(self) -> Tensor:
        """Raises NotAvailableError: labels are the image tower's."""
        raise NotAvailableError(
            "A text tower has no labels to read out: its texts are what an image tower's labels are. Compare "
            "embeddings, or use model.W_U of the HookedCLIP."
        )

    @property
    def b_U(self) -> Tensor:
        """Raises NotAvailableError, as :attr:`W_U`."""
        return self.W_U

    # ------------------------------------------------------------------ the source

    def follow_weights(self) -> None:
        """Takes over the device and dtype of the source's weights, which were moved or converted by themselves."""
        weight = self.blocks[0].mlp.W_in
        self.cfg.device, self.cfg.dtype = weight.device, weight.dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HookedText:
        super()._apply(fn, recurse)
        self.follow_weights()
        return self

    def _source_embedding(self, ids: Int[Tensor, "t n"]) -> Float[Tensor, "t e"]:
        """What the source itself gives, not normalised."""
        clip = self._whole[0]
        original = getattr(clip, "_original", None)
        if original is not None:
            found = original[0].get_text_features(input_ids=ids)
            return found if isinstance(found, Tensor) else found.pooler_output
        return unnormalised(clip.encode_text, ids)

    def _probe(self) -> Int[Tensor, "2 n"]:
        """Two rows of ids drawn from a seed, one that ends in the middle and one at the last place."""
        cfg, position = self.cfg, self._parts.position
        generator = torch.Generator("cpu").manual_seed(SEED)
        ids = torch.randint(1, max(2, cfg.d_vocab - 1), (2, cfg.context_length), generator=generator, device="cpu")
        end = position.token if isinstance(position, FirstOf) else cfg.d_vocab - 1
        middle = cfg.context_length // 2
        ids[0, middle], ids[0, middle + 1 :], ids[1, -1] = end, 0, end
        return cast(Tensor, ids.to(cfg.device))


@torch.compiler.disable
def _check_outside_of_graphs(model: HookedText) -> None:
    """Looks at the source each time, also where torch.compile has made a graph of the rest."""
    model._source.check()
    model.follow_weights()
