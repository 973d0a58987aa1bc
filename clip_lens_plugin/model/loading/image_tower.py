"""An image tower whose texts are missing or out of reach, in open_clip's shape."""

from __future__ import annotations

from typing import Any, NoReturn

from jaxtyping import Float
from torch import Tensor, nn

from clip_lens_plugin.model.loading.errors import ModelNotFoundError


class ImageTower(nn.Module):
    """The image tower of an open_clip model and its logit scale; texts are an error where they are first used.

    Args:
        clip: open_clip model; its image tower is taken, not copied.
        has_scale: whether its logit scale and bias were read.
        why: there are no texts, and what to do.
    """

    def __init__(self, clip: Any, has_scale: bool, why: str) -> None:
        super().__init__()
        self.visual = clip.visual
        self.why = why
        if has_scale:
            self.logit_scale = clip.logit_scale
            self.logit_bias = clip.logit_bias

    def encode_image(self, images: Float[Tensor, "b 3 height width"], normalize: bool = False) -> Float[Tensor, "b e"]:
        """Image embeddings, as those of the whole model."""
        found = self.visual(images)
        # Towers that also give their tokens (CoCa) give the embedding first.
        embeddings = found[0] if isinstance(found, tuple) else found
        return nn.functional.normalize(embeddings, dim=-1) if normalize else embeddings

    @property
    def text(self) -> NoReturn:
        """Raises ModelNotFoundError, as :meth:`encode_text`."""
        raise ModelNotFoundError(self.why)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> NoReturn:
        """Raises ModelNotFoundError: there are no texts."""
        raise ModelNotFoundError(self.why)
