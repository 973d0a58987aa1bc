"""What an adapter makes of a source model's tower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clip_lens_plugin.layers.block import Block
from clip_lens_plugin.layers.config import HookedCLIPConfig, HookedTextConfig, TowerConfig
from clip_lens_plugin.layers.embedding.patch_embed import Embed
from clip_lens_plugin.layers.embedding.text_embed import TextEmbed
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.pooling.pooling import Pooling
from clip_lens_plugin.layers.weight_refs import Affine, Weight


class UnsupportedTowerError(ValueError):
    """The tower has a feature that this version cannot decompose exactly."""


@dataclass(frozen=True)
class TowerParts:
    """Everything that a tower is assembled from but how it embeds. Nothing is copied: parts refer to the source's."""

    cfg: TowerConfig
    blocks: list[Block]
    ln_final: LayerNorm
    pooling: Pooling
    project: Affine | Callable[[], Tensor] | None
    """A linear layer, or P [d, e] itself; None where the embedding is the pooled stream."""
    source_blocks: list[nn.Module]
    """The source's own, one for each of ``blocks``."""

    def W_P(self) -> Float[Tensor, "d e"]:
        """The projection P from the pooled stream into the joint space."""
        if self.project is None:
            return torch.eye(self.cfg.d_embed, device=self.cfg.device, dtype=self.cfg.dtype)
        if isinstance(self.project, Weight) and not self.project.is_there:
            raise UnsupportedTowerError(
                f"{self.cfg.model_name}: the projection of its tower was there when it was wrapped, and is now "
                f"None. Put it back, or wrap the model again."
            )
        return self.project.weight.T if isinstance(self.project, Affine) else self.project()

    def b_P(self) -> Float[Tensor, " e"] | None:
        """The projection's bias, None where it has none."""
        return self.project.bias if isinstance(self.project, Affine) else None


@dataclass(frozen=True, kw_only=True)
class ImageParts(TowerParts):
    """The parts of a ``HookedCLIP``."""

    cfg: HookedCLIPConfig
    embed: Embed


@dataclass(frozen=True, kw_only=True)
class TextParts(TowerParts):
    """The parts of a ``HookedText``.

    Attributes:
        position: token ids [b, n] to the position of the token that is pooled [b].
    """

    cfg: HookedTextConfig
    embed: TextEmbed
    position: Callable[[Tensor], Tensor]


def activation_name(act: nn.Module) -> str:
    """ "gelu", "gelu_tanh" (its approximation), "quick_gelu" or "silu", after what it computes."""
    x = torch.linspace(-4, 4, 101, device="cpu")
    known = {
        "gelu": nn.functional.gelu(x),
        "gelu_tanh": nn.functional.gelu(x, approximate="tanh"),
        "quick_gelu": x * torch.sigmoid(1.702 * x),
        "silu": nn.functional.silu(x),
    }
    found = act(x)
    return next((name for name, y in known.items() if torch.allclose(found, y, atol=1e-6)), type(act).__name__)


def text_refusal(model_name: str, feature: str) -> UnsupportedTowerError:
    """Names the feature of a text tower."""
    return UnsupportedTowerError(f"{model_name}: its text tower has {feature}, which is not supported.")


def refusal(model_name: str, feature: str) -> UnsupportedTowerError:
    """Names the feature, and what is supported."""
    return UnsupportedTowerError(
        f"{model_name}: its image tower has {feature}, which is not supported. Supported are plain vision transformers "
        f"of open_clip, timm and Hugging Face that pool the class token, the mean over the patches, or by attention."
    )
