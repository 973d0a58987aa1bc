"""From pixels to the stream that enters the first block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clip_lens_plugin.dependencies.of_timm import with_positions


@runtime_checkable
class Embed(Protocol):
    """Images to the stream that enters block 0.

    Attributes:
        patches: a convolution or projection whose weight tells the tower's device and dtype.
    """

    @property
    def patches(self) -> nn.Conv2d | nn.Linear: ...

    def __call__(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b n d"]: ...


@dataclass(frozen=True)
class PatchEmbed:
    """Patches by a convolution, a class token before them, learned positions, then ``ln_pre``.

    Args:
        tower: source module that holds ``class_embedding`` [d] and ``positional_embedding`` [n, d].
        patches: convolution whose stride is the patch size.
        ln_pre: LayerNorm, or the identity where the source has none.
    """

    tower: Any
    patches: nn.Conv2d
    ln_pre: nn.Module

    def __call__(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b n d"]:
        x = self.patches(images).flatten(2).transpose(1, 2)
        class_token = self.tower.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([class_token, x], dim=1)
        return self.ln_pre(x + self.tower.positional_embedding.to(x.dtype))


@dataclass(frozen=True)
class TimmEmbed:
    """timm's own patch embedding (a convolution or a stem of several), class token, positions and ``norm_pre``."""

    trunk: Any

    @property
    def patches(self) -> nn.Conv2d:
        return next(module for module in self.trunk.patch_embed.modules() if isinstance(module, nn.Conv2d))

    def __call__(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b n d"]:
        return self.trunk.norm_pre(with_positions(self.trunk, self.trunk.patch_embed(images)))


@dataclass(frozen=True)
class EvaEmbed(TimmEmbed):
    """The same of timm's Eva, whose rotary positions are left to attention."""

    def __call__(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b n d"]:
        return self.trunk.norm_pre(with_positions(self.trunk, self.trunk.patch_embed(images))[0])


@dataclass(frozen=True)
class HuggingFaceEmbed:
    """A Hugging Face vision model's own embeddings, then the LayerNorm before the blocks where there is one."""

    embeddings: Any
    ln_pre: nn.Module

    @property
    def patches(self) -> nn.Conv2d:
        return self.embeddings.patch_embedding

    def __call__(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b n d"]:
        return self.ln_pre(self.embeddings(images))


def flat_patches(images: Float[Tensor, "b 3 height width"], size: int) -> Float[Tensor, "b n pixels"]:
    """Square patches in rows, each as its pixels row by row, a pixel's three colours together: as SigLIP 2 has them."""
    grid = images.unflatten(3, (-1, size)).unflatten(2, (-1, size))
    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


@dataclass(frozen=True)
class NaflexEmbed:
    """SigLIP 2's embeddings for images of any shape, at the square one whose positions it was trained with."""

    embeddings: Any

    @property
    def patches(self) -> nn.Linear:
        return self.embeddings.patch_embedding

    def __call__(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b n d"]:
        return (
            self.patches(flat_patches(images, self.embeddings.patch_size)) + self.embeddings.position_embedding.weight
        )
