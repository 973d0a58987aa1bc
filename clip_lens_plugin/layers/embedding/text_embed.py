"""From token ids to the stream that enters a text tower's first block, and what its tokens must not see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clip_lens_plugin.dependencies.of_open_clip import embedded_text


@runtime_checkable
class TextEmbed(Protocol):
    """Token ids to the stream that enters block 0, and a mask that is added to the scores of attention, or None.

    Attributes:
        tokens: the embedding of token ids, whose weight tells the tower's device and dtype.
        is_causal: whether a token sees only those before it and itself.
    """

    @property
    def tokens(self) -> nn.Embedding: ...
    @property
    def is_causal(self) -> bool: ...

    def __call__(self, ids: Int[Tensor, "b n"]) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "#b #h m m"] | None]: ...


@dataclass(frozen=True)
class _OfOpenCLIP:
    """What open_clip's text towers share.

    Args:
        holder: source module with ``token_embedding``, ``positional_embedding`` [n, d] and ``attn_mask``.
    """

    holder: Any

    @property
    def tokens(self) -> nn.Embedding:
        return self.holder.token_embedding

    @property
    def is_causal(self) -> bool:
        """Whether a token sees only those before it and itself."""
        return self.holder.attn_mask is not None


class OpenCLIPTextEmbed(_OfOpenCLIP):
    """Token and position, as open_clip's ``CLIP`` has them; its causal mask where there is one."""

    def __call__(self, ids: Int[Tensor, "b n"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "#b #h n n"] | None]:
        dtype = self.holder.transformer.get_cast_dtype()
        x = self.tokens(ids).to(dtype) + self.holder.positional_embedding.to(dtype)
        mask = self.holder.attn_mask
        return x, None if mask is None else mask[None, None].to(dtype)


class TextTransformerEmbed(_OfOpenCLIP):
    """open_clip's own embedding of a ``TextTransformer``: a class token after the text, and masks of padding."""

    def __call__(self, ids: Int[Tensor, "b n"]) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "#b #h m m"] | None]:
        x, mask = embedded_text(self.holder, ids)
        if mask is None:
            return x, None
        by_head = mask[None, None] if mask.ndim == 2 else mask.unflatten(0, (len(ids), -1))
        return x, by_head.to(x.dtype)


@dataclass(frozen=True)
class HuggingFaceTextEmbed:
    """A Hugging Face text model's own embeddings; a causal mask for those of CLIP.

    Args:
        embeddings: source module.
        is_causal: whether a token sees only those before it and itself.
    """

    embeddings: Any
    is_causal: bool

    @property
    def tokens(self) -> nn.Embedding:
        return self.embeddings.token_embedding

    def __call__(self, ids: Int[Tensor, "b n"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "#b #h n n"] | None]:
        x = self.embeddings(input_ids=ids)
        if not self.is_causal:
            return x, None
        n = x.shape[1]
        mask = torch.full((n, n), float("-inf"), device=x.device, dtype=x.dtype).triu(1)
        return x, mask[None, None]
