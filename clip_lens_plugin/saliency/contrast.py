"""What a map is of: the cosine with a text, less the mean cosine with the texts that it is contrasted with."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition.equations import along
from clip_lens_plugin.numerics.precision import full_precision


@full_precision()
def contrast_of(texts: Float[Tensor, "b e"], against: Float[Tensor, "b c e"] | None) -> Float[Tensor, "b e"]:
    """Each image's text minus the mean of those that it is contrasted with, in float32 or better.

    A cosine is linear in the text, so a cosine with this is the text's cosine minus the mean of the others'.

    Args:
        texts: a unit text embedding for each image.
        against: those of other texts for each image; None for none.

    Raises:
        ValueError: if nothing is left of an image's text.
    """
    wide = texts.to(torch.promote_types(texts.dtype, torch.float32))
    if against is None:
        return wide
    left = wide - against.to(wide).mean(1)
    gone = left.norm(dim=-1) <= 4 * torch.finfo(texts.dtype).eps
    if bool(gone.any()):
        raise ValueError(
            f"The text of image {int(gone.nonzero()[0])} is the mean of those that it is contrasted with, so nothing "
            f"is left to map. Give other texts as `against`, or none."
        )
    return left


@full_precision()
def cosines(embeddings: Float[Tensor, "b *tokens e"], contrasts: Float[Tensor, "b e"]) -> Float[Tensor, "b *tokens"]:
    """The cosine of each embedding with its image's text, less that with the others."""
    wide = embeddings.to(torch.promote_types(embeddings.dtype, contrasts.dtype))
    unit = torch.nn.functional.normalize(wide, dim=-1)
    return along(unit, contrasts.to(wide))
