"""The formula of an interaction: the cosine of an image with a text, as a sum over the parts of both.

With m and t the unit embeddings, each the sum of its parts (equations 3 and 4 of Gandelsman, Efros and Steinhardt, ICLR
2024, of either tower): ``cosine = m · t = Σ_c Σ_f m[c] · t[f]``.

Letters: b images; t texts; c parts of an image; f parts of a text; e width of the joint space.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition.equations import towards


def pair_terms(images: Float[Tensor, "b *c e"], texts: Float[Tensor, "t *f e"]) -> Float[Tensor, "b t *c *f"]:
    """``m[b,c] · t[t,f]``: what each part of an image and each of a text add together, in the unit of both.

    Args:
        images: parts of each image, by one axis or several: layers and heads, or tokens.
        texts: parts of each text, as well.
    """
    of_image, of_text = images.shape[1:-1], texts.shape[1:-1]
    pairs = towards(images.flatten(1, -2), texts.flatten(0, -2))  # [b, c, t f]
    return pairs.unflatten(-1, (len(texts), -1)).transpose(1, 2).unflatten(-1, of_text).unflatten(2, of_image)
