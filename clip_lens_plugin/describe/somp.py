"""Matching pursuit of a head: which texts, taken together, what it writes to all images is made of.

Simultaneous orthogonal matching pursuit (SOMP) takes up the text D_j along which the rows X of what a head wrote still
have most, ``‖R D_j‖²`` with ``R = X (I − P)`` and P the projection on the texts so far. As ``R D_j = X r_j`` with
``r_j = (I − P) D_j``, the rows enter through their second moment alone: ``‖R D_j‖² = n (M r_j)ᵀ S (M r_j)``, where
M is the head's map and S = E[y yᵀ] of its coordinates.

Source: Tropp, Gilbert and Strauss, "Algorithms for simultaneous sparse approximation, part I", Signal Processing 2006;
of the heads of vision and language models Basile, Maiorca, Doimo, Locatello and Cazzaniga, "Head Pursuit", NeurIPS
2025. It differs from TextSpan in that all texts have the same length to begin with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.describe.asked import Heads, asked_heads, warn_of_constant
from clip_lens_plugin.describe.embedded import embedded
from clip_lens_plugin.describe.frames import HeadFrame, Picked, pursued
from clip_lens_plugin.describe.spans import HeadSpan, TextSpanResult
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.texts.pool import TextPool

METHOD = "SOMP"

LEAST_PROJECTED = 0.05
"""Share of the pool that is left out for having least in the head's span: scaling up would make it noise."""


@takes_bridges
@torch.no_grad()
def somp(
    model: ImageTextModel,
    data: Any,
    pool: TextPool | Sequence[str],
    n: int = 5,
    heads: Heads = "late",
    *,
    centred: bool = True,
    project: bool = True,
    text_embeddings: Float[Tensor, "t e"] | None = None,
) -> TextSpanResult:
    """Describes what heads write by texts, by simultaneous orthogonal matching pursuit on moments alone.

    The published form has ``centred=False, project=False``. There the mean of what a head writes, which says nothing of
    the images, mostly takes the first pick; and much of a text lies where the head cannot write.

    Args:
        model: gives M_{l,h} and the texts' embeddings.
        data: what the heads wrote: :class:`Moments`; or contributions, a store or its path, or images, in cosine units.
        pool: the texts to pick from, their embeddings cached on disk.
        n: at most this many texts for a head.
        heads: "late" (the last four layers), "all", or (layer, head) pairs.
        centred: without the mean of what a head writes, so that its variance is explained; else its mean square.
        project: each text projected on the span of what the head writes, and scaled to unit length there. The
            :data:`LEAST_PROJECTED` part of the pool with least in the span is left out, since scaling would inflate it.
        text_embeddings: unit embeddings of ``pool``, to use instead of the model's own.

    Returns:
        For each head the texts, the share of its variance (or mean square) that they explain, and how much of each
        text's embedding lies in the span of what the head writes, as ``projected_norms``.

    Raises:
        ValueError: if ``n`` is less than 1, there are fewer than two images, there is no text or head, embeddings are
            not finite unit vectors or not of the texts, or the moments are of another model or of other layers alone.
        IndexError: if there is no such head.
    """
    asked = asked_heads(model, data, heads)
    n = checked_number("n", n)
    texts = embedded(model, asked.readout, pool, text_embeddings)
    moments, spans = asked.moments, []
    for layer, head in asked.heads:
        frame = HeadFrame.of(asked.readout, moments, layer, head)
        inside = equations.contribution(texts.embeddings, frame.axes)
        norms = inside.norm(dim=1)
        form = frame.covariance if centred else frame.second_moment
        if project:
            found = _in_span(frame, inside, norms, form, n)
        else:
            along = partial(_along, axes=frame.axes, form=form)
            found = pursued(texts.embeddings, along, float(form.trace()), frame.least, n)
        span = HeadSpan.of_picks(layer, head, found, texts.pool.texts, moments.constants)
        spans.append(replace(span, method=METHOD, centred=centred, projected_norms=norms[found.indices].tolist()))
    warn_of_constant([(span.layer, span.head) for span in spans if span.total_variance == 0.0], moments.n)
    return TextSpanResult(spans, model.cfg.n_layers, moments.constants, model.cfg.n_heads, METHOD)


def _in_span(
    frame: HeadFrame, inside: Float[Tensor, "t r"], norms: Float[Tensor, " t"], form: Float[Tensor, "r r"], n: int
) -> Picked:
    """The picks among the texts that have enough in the span, scaled to unit length there."""
    least = torch.quantile(norms, LEAST_PROJECTED, interpolation="lower") if len(norms) else 0.0
    kept = ((norms >= least) & (norms > 0)).nonzero().flatten()
    scaled = inside[kept] / norms[kept, None]
    found = pursued(scaled, partial(equations.quadratic, form=form), float(form.trace()), frame.least, n)
    return found._replace(
        indices=kept[found.indices].tolist(), directions=equations.contribution(found.directions, frame.axes.T)
    )


def _along(texts: Float[Tensor, "*t e"], axes: Float[Tensor, "e r"], form: Float[Tensor, "r r"]) -> Float[Tensor, "*t"]:
    """``(D F)ᵀ S (D F)``: the part of the variance that lies along each text, of which most may lie elsewhere."""
    return equations.quadratic(equations.contribution(texts, axes), form)
