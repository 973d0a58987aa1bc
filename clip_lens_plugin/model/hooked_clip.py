"""A CLIP image encoder as a TransformerLens model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clip_lens_plugin.adapters.checks.source_check import SourceCheck
from clip_lens_plugin.adapters.checks.structure import SourceMismatchError, refuse_mixed_dtypes
from clip_lens_plugin.adapters.choose import tower_parts
from clip_lens_plugin.images.pictures import Picture
from clip_lens_plugin.images.preprocessed import prepared
from clip_lens_plugin.model.editable import Editable
from clip_lens_plugin.model.hooked_tower import HookedTower
from clip_lens_plugin.model.hooks.run_arguments import checked_output, checked_stop, refuse_text_arguments
from clip_lens_plugin.model.identity.verification import Verification, can_verify, verify
from clip_lens_plugin.model.inputs.image_tokens import ImageTokens, pixels_of
from clip_lens_plugin.model.inputs.pixels import check_batch
from clip_lens_plugin.model.protocol import Begun, ImageTextModel
from clip_lens_plugin.model.text.hooked_text import HookedText
from clip_lens_plugin.model.text.labels import Labels
from clip_lens_plugin.model.text.text_side import TextSide
from clip_lens_plugin.model.text.vocabulary import Vocabulary
from clip_lens_plugin.warned import warn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from clip_lens_plugin.decomposition.running.runs import Contributions
    from clip_lens_plugin.model.loading import Options, Origin


class HookedCLIP(Vocabulary, TextSide, HookedTower, Editable, ImageTextModel):
    """A CLIP image tower with TransformerLens's hooks, weights and cache; its text tower is :attr:`text`.

    ``model(images)`` is open_clip's own ``encode_image``: the embedding M(I) [b, e], not normalised, in the
    weights' dtype. No weight is copied. Hook points, for layer l (b images, n tokens, h heads, k head width,
    d model width)::

        hook_embed                                    [b, n, d]    the stream that enters block 0, after ln_pre
        blocks.{l}.hook_{resid_pre,attn_out,resid_mid,mlp_out,resid_post}    [b, n, d]
        blocks.{l}.attn.hook_{q,k,v,z}                [b, n, h, k]
        blocks.{l}.attn.hook_{attn_scores,pattern}    [b, h, n, n]
        blocks.{l}.attn.hook_result                   [b, n, h, d]    in a cache on request, see set_use_attn_result
        blocks.{l}.mlp.hook_{pre,post}                [b, n, d_mlp]
        {blocks.{l}.ln1, blocks.{l}.ln2, ln_final}.hook_scale         [b, n, 1]
        {blocks.{l}.ln1, blocks.{l}.ln2, ln_final}.hook_normalized    [b, n, d]

    after :meth:`set_use_split_qkv_input`, :meth:`set_use_attn_in` or :meth:`set_use_hook_mlp_in`::

        blocks.{l}.hook_{q,k,v}_input, blocks.{l}.hook_attn_in        [b, n, h, d]    also under blocks.{l}.attn
        blocks.{l}.hook_mlp_in                        [b, n, d]

    and, in towers that have them (p pool heads, k_p their width)::

        blocks.{l}.mlp.hook_pre_linear                [b, n, d_mlp]    what a gated MLP multiplies act(hook_pre) with
        blocks.{l}.mlp.{hook_mid,ln.hook_scale,ln.hook_normalized}    [b, n, ...]    around an MLP's inner norm
        blocks.{l}.attn.hook_{rot_q,rot_k}            [b, n, h, k]    after rotary positions
        blocks.{l}.attn.{hook_z_scale,hook_bias_scale}    scales of a norm after the heads
        pool.hook_{q,k,v,z,attn_scores,pattern,attn_out,mlp_out,out}    of an attention pool, with one query

    Tokens are the class token, where there is one, registers, and the patches: the one in row r, column c is token
    ``cfg.n_prefix_tokens + r · columns + c``. Where the mean over the patches is normalised (CLIPA), ``ln_final`` sees
    nothing else: its scale is [b, 1, 1].

    Attributes:
        clip: the open_clip model, or a Hugging Face model in its shape.
        cfg: the tower's shape, see :class:`~clip_lens_plugin.layers.config.HookedCLIPConfig`.
        preprocess: PIL image to [3, height, width], or None.
        tokenizer: texts to token ids, or None.
        labels: text labels set by :meth:`set_labels`, or None.
        text: the text tower, a :class:`~clip_lens_plugin.model.text.hooked_text.HookedText`.
        verified: what :meth:`verify` found when the model was wrapped; None on the meta device.
        origin: name, tag, file and settings that :meth:`from_pretrained` loaded it by, or None.
    """

    _text: tuple[HookedText] | None = None  # In a tuple it is no submodule.

    def __init__(
        self,
        clip: nn.Module,
        preprocess: Callable[..., Tensor] | None = None,
        tokenizer: Callable[[list[str]], Tensor] | None = None,
        model_name: str = "open_clip model",
    ) -> None:
        """See :meth:`from_open_clip`, also for ``model_name``."""
        super().__init__(clip, tower_parts(clip, model_name))
        self.preprocess = preprocess
        self.tokenizer = tokenizer
        self.labels: Labels | None = None
        self.origin: Origin | None = None
        self.setup()
        self.eval()
        self._source = SourceCheck.of(self.clip, model_name)
        self.verified: Verification | None = self.verify() if can_verify(self) else None

    @classmethod
    def from_open_clip(
        cls,
        clip: nn.Module,
        preprocess: Callable[..., Tensor] | None = None,
        tokenizer: Callable[[list[str]], Tensor] | None = None,
        model_name: str = "open_clip model",
    ) -> HookedCLIP:
        """Wraps a loaded open_clip model; it is put into evaluation mode.

        Args:
            clip: the model, with its weights.
            preprocess, tokenizer: see the class; without them it takes no pictures, or no texts.
            model_name: as shown.

        Raises:
            UnsupportedTowerError: if the image tower is no vision transformer, or has a feature that is not supported.
            ValueError: if a weight is NaN or infinite.
        """
        return cls(clip, preprocess, tokenizer, model_name)

    @classmethod
    def from_transformers(
        cls,
        model: PreTrainedModel,
        preprocess: Callable[..., Tensor] | None = None,
        tokenizer: Callable[[list[str]], Tensor] | None = None,
        model_name: str = "Hugging Face model",
    ) -> HookedCLIP:
        """Wraps a loaded Hugging Face model; it is put into evaluation mode.

        The embedding is the model's ``image_embeds`` (``get_image_features``). A ``Siglip2Model`` takes square images
        of as many patches as it has positions.

        Args:
            model: ``CLIPModel``, ``CLIPVisionModelWithProjection``, ``SiglipModel`` or ``Siglip2Model``.
            preprocess, tokenizer, model_name: see :meth:`from_open_clip`.

        Raises:
            UnsupportedTowerError: for another model, or a feature that is not supported.
            ValueError: if a weight is NaN or infinite.
        """
        from clip_lens_plugin.adapters.transformers_tower import HuggingFaceCLIP

        return cls(HuggingFaceCLIP(model), preprocess, tokenizer, model_name)

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        pretrained: str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        *,
        checkpoint: str | Path | None = None,
        force_quick_gelu: bool | None = None,
        force_image_size: int | Sequence[int] | None = None,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        image_interpolation: str | None = None,
        image_resize_mode: str | None = None,
        tokenizer: Callable[[list[str]], Tensor] | str | Path | None = None,
    ) -> HookedCLIP:
        """Loads a model by open_clip's or Hugging Face's own loader, or the embedded model "scenes".

        A tag's own activation and preprocessing are used, also for a file that is given beside it. For a file alone
        they are those that all tags of the name agree on; where the tags differ, the name's own, and a warning says
        which and what else could be meant. Keywords are those of ``open_clip.create_model_and_transforms``, and win.

        Args:
            name: "scenes" or "scenes-planted" (trained with a spurious cue), one of ``open_clip.list_models()``,
                "local-dir:FOLDER" or "hf-hub:OWNER/REPOSITORY" in open_clip's format, or "transformers:FOLDER" or
                "transformers:OWNER/REPOSITORY" in Hugging Face's: ``CLIPModel``, ``CLIPVisionModelWithProjection``,
                ``SiglipModel`` or ``Siglip2Model``.
            pretrained: a tag of that model or the path of a checkpoint.
            device: "cuda" where there is one, else "cpu", if not given.
            dtype: float32 if not given; float16 and bfloat16 keep LayerNorm in float32 as open_clip does;
                float64 for exact work.
            checkpoint: path of a file with the weights; beside a tag, which then gives settings alone.
            force_quick_gelu: True for QuickGELU. False, as None, for what the tag or the name says, but without the
                warning where a file's activation is in doubt.
            force_image_size: in pixels, one number or (height, width); the position embedding is resized.
            image_mean: of pixels between 0 and 1, one number or one per channel.
            image_std: likewise.
            image_interpolation: "bicubic" or "bilinear".
            image_resize_mode: "shortest" (edge to size, then the centre), "longest" (padded) or "squash".
            tokenizer: texts to token ids, or the folder of a Hugging Face tokenizer; the model's own if not given.

        Warns:
            LoadingWarning: of settings that a file does not say, of what was unwrapped from it, and of weights that are
                not as they lie in the file, such as a resized position embedding.

        Raises:
            ModelNotFoundError: unknown name or tag (the nearest are suggested), weights that are neither
                cached nor within reach, or a checkpoint that does not load. A text tower or tokenizer that is out of
                reach raises it where texts are first used.
            UnsupportedTowerError: see :meth:`from_open_clip`.
            ValueError: if a weight is NaN or infinite, or a keyword has no such value.
        """
        from clip_lens_plugin.model.loading import LoadingWarning, Options

        options = Options.checked(
            checkpoint=checkpoint,
            force_quick_gelu=force_quick_gelu,
            force_image_size=force_image_size,
            image_mean=image_mean,
            image_std=image_std,
            image_interpolation=image_interpolation,
            image_resize_mode=image_resize_mode,
            tokenizer=tokenizer,
        )
        model = cls.from_options(name, pretrained, device, dtype, options)
        for note in [] if model.origin is None else model.origin.notes:
            warn(note, LoadingWarning)
        return model

    @classmethod
    def from_options(
        cls,
        name: str,
        pretrained: str | Path | None,
        device: str | torch.device | None,
        dtype: torch.dtype | None,
        options: Options,
    ) -> HookedCLIP:
        """As :meth:`from_pretrained` of ``name``, ``pretrained``, ``device``, ``dtype``; its keywords are ``options``.

        What there is to note of the files stands in ``origin.notes`` alone.
        """
        from clip_lens_plugin.model.loading import load

        loaded = load(name, pretrained, device, dtype, options)
        model = cls(loaded.clip, loaded.preprocess, loaded.tokenizer, loaded.title)
        model.origin = loaded.origin
        return model

    # ------------------------------------------------------------------ running

    def forward(
        self,
        images: Float[Tensor, "b 3 height width"] | ImageTokens,
        return_type: str | None = "embedding",
        stop_at_layer: int | None = None,
        **for_text: Any,
    ) -> Float[Tensor, "b *rest"] | None:
        """The embedding M(I) [b, e], not normalised, equal to open_clip's ``encode_image``.

        A warning says where pixels are hardly those of the model's own preprocessing (see
        :mod:`clip_lens_plugin.model.inputs.pixels`), or are NaN or infinite.

        Args:
            images: preprocessed images, of any floating-point dtype; they are cast to the weights' dtype and moved to
                their device. Or what :func:`~clip_lens_plugin.model.inputs.image_tokens.image_tokens` made of them.
            return_type: "logits" for M(I) · e_t of each label [b, t], None for nothing.
            stop_at_layer: gives the stream [b, n, d] that enters this block instead, and runs nothing after it;
                ``n_layers`` gives the last stream.
            for_text: other arguments of TransformerLens's models; all are refused.

        Raises:
            PixelError: a ValueError and TypeError, if they are no floating-point tensor [b, 3, *cfg.image_size].
            NotAvailableError: a ValueError and AttributeError, if logits are asked for and no labels are set.
            ValueError, IndexError: for another ``return_type``, or a layer that there is not.
            TypeError: for an argument that makes sense for text alone.
        """
        refuse_text_arguments(self.cfg.model_name, for_text)
        with_labels = checked_output(return_type) == "logits"
        stop = checked_stop(stop_at_layer, self.cfg.n_layers)
        if with_labels:
            self.refuse_without_labels()
        with self._run_lock:
            try:
                begun = self.begin(images)
                x, read = begun.stream, begun.read
                del begun  # Its stream is not to be held while later blocks run.
                for layer, block in enumerate(self.blocks):
                    if layer == stop:
                        return x
                    x = block(x)
                if stop is not None:
                    return x
                embedding = self.finish(x, read)
            except RuntimeError:
                refuse_mixed_dtypes(self.clip.visual, self.cfg.model_name)
                raise
        if with_labels:
            return self.logits(embedding)
        return None if return_type is None else embedding

    def begin(self, images: Float[Tensor, "b 3 height width"] | ImageTokens) -> Begun:
        """A run on images, as far as block 0. Raises PixelError and SourceMismatchError as the whole run."""
        pixels = pixels_of(images)
        check_batch(self, pixels)
        with self._run_lock:
            self.check_source()
            embedded = self._parts.embed(pixels.to(self.cfg.device, self.cfg.dtype))
            return Begun(self.hook_embed(embedded), None, {})

    @property
    def text(self) -> HookedText:
        """The text tower, wrapped and compared with its source when it is first asked for.

        It is no submodule: it has hooks, a cache and a ``reset_hooks`` of its own, and its parameters are those of
        :attr:`clip`. It moves with the model and is copied with it.

        Raises:
            UnsupportedTowerError: if it is of another architecture, or has a feature that is not supported.
            ModelNotFoundError: if it is out of reach.
            NotAvailableError: a ValueError and AttributeError, if the model is an image tower alone.
        """
        if self._text is None:
            self._refuse_image_tower_alone()
            self._text = (HookedText(self.clip, self.tokenizer, self.cfg.model_name),)
        return self._text[0]

    def verify(self, images: Any = None) -> Verification:
        """The embedding's difference from the source's own, which is at most rounding.

        Once :attr:`text` was used, its embeddings of texts are compared as well.

        The source is run by its own ``encode_image``, ``get_image_features`` or, for an image tower alone, forward. It
        is done when the model is wrapped, before collecting and before a report, and whenever this is called.

        Args:
            images: the path of a picture or of a folder, pictures, or preprocessed images [b, 3, height, width]; one
                image of noise drawn from a seed if not given.

        Raises:
            SourceMismatchError: if the difference is more than rounding in the weights' dtype; the message names the
                first block at which the two streams part. Or if the source was changed since it was wrapped.
            ValueError: if hooks are on the model, there is no image, or the shape is wrong.
        """
        found = verify(self, images)
        return found if self._text is None else replace(found, text=self._text[0].verify())

    def check_source(self) -> None:
        """Does nothing if the source's modules are as they were wrapped; needs no run.

        Raises:
            SourceMismatchError: if a module of the image tower has a hook or a forward of its own, another part or
                setting than when it was wrapped, or drops values in training mode.
        """
        _check_outside_of_graphs(self)

    def check_holder(self) -> None:
        """Checks what texts and logits are read from, the text tower and logit scale, as :meth:`check_source` does."""
        self._source.check_held()

    def follow_weights(self, weight: Tensor) -> None:
        """Takes over the device and dtype of one of the source's weights, which was moved or converted by itself."""
        self.cfg.device, self.cfg.dtype = weight.device, weight.dtype
        if self.labels is not None:
            self.labels = self.labels.converted(self.labels.embeddings.to(weight.device, weight.dtype))

    def prepare(self, pictures: Picture | Iterable[Picture]) -> Float[Tensor, "b 3 height width"]:
        """Pictures, turned upright, converted to RGB and preprocessed as the model was trained, as one batch.

        A picture becomes what the same file becomes in a folder that is collected or reported on.

        Args:
            pictures: PIL pictures or paths of files, or one of them.

        Raises:
            ValueError: if there is no picture, or the model was wrapped without its preprocessing, or with one that
                makes something else of a picture than the model takes.
            UnreadableImageError: a ValueError, if a picture cannot be used; the message says which and why.
            TypeError: if something is neither a picture nor a path.
        """
        return prepared(pictures, self.preprocess, self.cfg.model_name, self.cfg.image_size)

    def decompose(self, images: Any, **kwargs: Any) -> Contributions:
        """``decompose_images(model, images, **kwargs)``: contributions of paths, pictures or pixels, which are run."""
        from clip_lens_plugin.decomposition.running.runs import decompose_images

        return decompose_images(self, images, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HookedCLIP:
        super()._apply(fn, recurse)
        weight = self._parts.embed.patches.weight
        self.cfg.device, self.cfg.dtype = weight.device, weight.dtype
        if self.labels is not None:
            self.labels = self.labels.converted(fn(self.labels.embeddings))
        if self._text is not None:
            self._text[0].follow_weights()
        return self


@torch.compiler.disable
def _check_outside_of_graphs(model: HookedCLIP) -> None:
    """Looks at the source each time, also where torch.compile has made a graph of the rest."""
    if model.clip is not model._source.clip:
        raise SourceMismatchError(
            f"{model.cfg.model_name}: model.clip was replaced after wrapping. Wrap the new one: HookedCLIP(clip)."
        )
    model._source.check()
    weight = model._parts.embed.patches.weight
    if (weight.device, weight.dtype) != (model.cfg.device, model.cfg.dtype):  # The source was moved or converted.
        model.follow_weights(weight)
