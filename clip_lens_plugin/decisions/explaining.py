"""Why A rather than B: the gap between two texts taken apart, and heads without which the answer flips.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, equations 1 to 4, along the difference of two texts; direct and
total effects as in section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.decisions.decision import Decision
from clip_lens_plugin.decisions.gaps import GapTable, head_table, patch_table
from clip_lens_plugin.decisions.removal import Question, RemovedHeads, cosines, removals, runs_without
from clip_lens_plugin.decisions.replacing import Replacement
from clip_lens_plugin.decisions.words import word_table
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.parts.component_shares import component_scores
from clip_lens_plugin.decomposition.running.runs import decompose_images
from clip_lens_plugin.describe.spans import TextSpanResult, text_span
from clip_lens_plugin.hints import given_as
from clip_lens_plugin.maps.pictured import followed, pictured_of
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.hooks.interventions import refuse_left_hooks
from clip_lens_plugin.model.inputs.given import given_image
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.numerics.noise import stored_noise
from clip_lens_plugin.numerics.precision import full_precision, rounding
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.texts.pool import TextPool
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

DESCRIBED = 8
"""Heads with the largest part of the gap that are described, beside those that are removed."""

N_TEXTS = 3
"""Texts of a head."""


class NoGapError(ValueError):
    """The image is as near to one text as to the other."""


@takes_bridges
@torch.no_grad()
def explain(
    model: ImageTextModel,
    image: Any,
    a: str | ZeroShotClassifier,
    b: str | None = None,
    *,
    means: Any = None,
    texts: TextPool | Sequence[str] | TextSpanResult | None = None,
    random_sets: int = 20,
    seed: int = 0,
    batch_size: int = 32,
) -> Decision:
    """Why the image is nearer to one text than to another.

    The gap between the two cosines is taken apart exactly: over heads, over patches and, of two texts, over their
    words. Then heads that speak for the
    answer are removed, the one that speaks most for it first: in the sum (direct), and in runs of the model, where
    later layers react (total).

    Args:
        image: the path of a picture, a picture, or a preprocessed image [3, height, width].
        a: the first text; or a classifier, of which the two nearest classes are compared.
        b: the second text.
        means: what removed heads write is their mean over these: images (their path, a folder's, pictures or pixels),
            at each token its own; or contributions, a store or its path, or :class:`ComponentSums` in cosine units, the
            same at every token. Zero if not given.
        texts: describe heads by these (TextSpan), on the images of ``means``; or what TextSpan found.
        random_sets: random sets of as many heads that are removed for comparison; 0 for none.
        seed: of these.
        batch_size: images of ``means`` in a run.

    Raises:
        ValueError: if it is not two different texts or a classifier of two or more, ``means`` are of another model or,
            for an attention pool, no images, there is nothing to describe heads on, or hooks were left on the model.
        NoGapError: a ValueError, if the image is as near to one text as to the other.
        PixelError: if the image is neither a picture nor a floating-point tensor of the model's shape, or holds NaN or
            infinity; doubtful pixels are a warning.
        UnreadableImageError: a ValueError, if the picture cannot be used.
        TokensNotAvailableError: a ValueError, if hooks around the call replaced what a head puts out.
    """
    checked_number("random_sets", random_sets, least=0)
    checked_number("seed", seed, least=0)
    checked_number("batch_size", batch_size)
    refuse_left_hooks(model, "explain is of the model as it is")
    names, embeddings = _choices(model, a, b)
    if texts is not None and means is None and not isinstance(texts, TextSpanResult):
        raise ValueError(
            f"Texts describe what heads write over many images: give {given_as('means')} as well, images or a store."
        )
    given = followed(given_image(model, image))
    with given.checked():
        pixels = given.pixels(slice(None))
        own = decompose_images(model, pixels, tokens=True).normalized()
        asked = _question(own, names, embeddings, in_order=isinstance(a, str))
        replacement = Replacement.of(model, means, own, batch_size)
        heads, patches, change = _tables(own, asked, replacement, model.cfg.grid_size)
        run = runs_without(model, pixels, asked.embeddings, replacement)
        found = removals(asked, change, run, random_sets, seed)
    near = cosines(own.embedding, asked.embeddings)[0]
    return Decision(
        texts=(names[asked.pair[0]], names[asked.pair[1]]),
        cosines=(float(near[asked.pair[0]]), float(near[asked.pair[1]])),
        gap=asked.gap,
        heads=heads,
        patches=patches,
        removed=found,
        ablation=replacement.ablation,
        replaced_by=replacement.in_words,
        n_heads=model.cfg.n_layers * model.cfg.n_heads,
        grid_size=model.cfg.grid_size,
        pictured=pictured_of(given)[0],
        words=word_table(model, own.embedding, (names[0], names[1]), asked.gap) if isinstance(a, str) else None,
        spans=_described(model, texts, replacement, heads, found),
    )


def _choices(model: ImageTextModel, a: Any, b: Any) -> tuple[tuple[str, ...], Float[Tensor, "t e"]]:
    """The texts to choose from and their unit embeddings."""
    if isinstance(a, ZeroShotClassifier):
        if b is not None:
            raise ValueError(f"A classifier compares its two nearest classes: leave out the text {b!r:.80}.")
        if len(a) < 2:
            raise ValueError(f"A decision is between two classes or more, the classifier has {len(a)}: {a.names[0]!r}.")
        a.refuse_other_model(model)
        return a.names, a.embeddings
    if not isinstance(a, str) or not isinstance(b, str) or not a.strip() or not b.strip():
        raise ValueError(
            f"explain takes two texts, explain(model, image, 'a dog', 'a cat'), or a classifier, "
            f"ZeroShotClassifier.from_labels(model, [...]), got {a!r:.60} and {b!r:.60}."
        )
    if a.strip() == b.strip():
        raise ValueError(f"The two texts are the same, {a!r:.80}: give two that differ.")
    return (a, b), model.encode_text([a, b])


def _question(own: Contributions, names: tuple[str, ...], embeddings: Float[Tensor, "t e"], in_order: bool) -> Question:
    """The two texts that are compared: in the order given, or of all the nearest first.

    Raises:
        ValueError: if the image is as near to one as to the other.
    """
    texts = own.readout.checked_texts(embeddings)
    near = cosines(own.embedding, texts)[0]
    first, second = (0, 1) if in_order else near.topk(2).indices.tolist()
    with full_precision():
        apart = (texts[first] - texts[second]).cpu().double()
        gap = float(equations.towards(own.embedding.cpu().double(), apart[None]))
    model = own.readout.model
    least = stored_noise(rounding(model.cfg.dtype, model.cfg.device))
    if not abs(gap) > least:
        both = f"{float(near[first]):.6f} and {float(near[second]):.6f} in {model.cfg.dtype}"
        raise NoGapError(
            f"The image is as near to {names[first]!r:.80} as to {names[second]!r:.80} (cosines {both}), so there is "
            f"no gap to explain."
        )
    return Question(names, texts, (first, second), gap, least)


@full_precision()
def _tables(
    own: Contributions, asked: Question, replacement: Replacement, grid_size: tuple[int, int]
) -> tuple[GapTable, GapTable, Float[Tensor, "l h"]]:
    """The gap over heads and over patches, and what replacing each head in the sum takes from it."""
    direction = asked.direction
    change = replacement.change(own)
    taken = equations.head_scores(change, own.readout.directions(direction))[0, :, :, 0]
    scores = {name: each[0] for name, each in component_scores(own, direction).items()}
    by_token = own.towards(direction, per_token=True)[0].cpu().double()
    patches = equations.over_heads(by_token, torch.ones_like(by_token[:, :, 0, 0]))[:, 0]
    heads = head_table(scores, taken, asked.gap)
    return heads, patch_table(scores, patches, grid_size, asked.gap), taken


def _described(
    model: ImageTextModel,
    texts: TextPool | Sequence[str] | TextSpanResult | None,
    replacement: Replacement,
    table: GapTable,
    removed: Sequence[RemovedHeads],
) -> TextSpanResult | None:
    """Texts of the heads that are shown, those of which the data know enough."""
    if texts is None or isinstance(texts, TextSpanResult):
        return texts
    if replacement.data is None:
        raise ValueError("Sums do not say what to describe heads by: give images, contributions or a store as means.")
    rows = table.rows[table.rows["part"] == "head"].head(DESCRIBED)
    largest = [(int(layer), int(head)) for layer, head in zip(rows["layer"], rows["head"], strict=True)]
    wanted = list(dict.fromkeys([*(head for each in removed for head in each.heads), *largest]))
    moments = Moments.of(replacement.data, {layer for layer, _ in wanted})
    known = [head for head in wanted if moments.layers is None or head[0] in moments.layers]
    return text_span(model, moments, texts, N_TEXTS, known) if known else None
