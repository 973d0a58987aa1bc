"""The texts that describe, with their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.texts.pool import TextPool


class EmbeddedTexts(NamedTuple):
    """A pool and the unit embedding of each of its texts, in float64 on the readout's device."""

    pool: TextPool
    embeddings: Float[Tensor, "t e"]


def embedded(
    model: ImageTextModel,
    readout: Readout,
    texts: TextPool | Sequence[str],
    embeddings: Float[Tensor, "t e"] | None = None,
) -> EmbeddedTexts:
    """The texts that a user gave, embedded by the model unless their embeddings were given as well.

    Args:
        model: whose text tower embeds them.
        readout: of the model.
        texts: a pool, its embeddings cached on disk; or texts.
        embeddings: unit embeddings of the texts, to use instead of the model's own.

    Raises:
        ValueError: if there is no text, or embeddings are not finite unit vectors or not of the texts.
    """
    pool = texts if isinstance(texts, TextPool) else TextPool.from_strings(texts)
    found = pool.embed(model) if embeddings is None else embeddings
    if len(found) != len(pool):
        raise ValueError(f"{len(pool)} texts need as many embeddings, got {len(found)}.")
    readout.checked_texts(found)
    return EmbeddedTexts(pool, found.detach().double().to(readout.P.device))
