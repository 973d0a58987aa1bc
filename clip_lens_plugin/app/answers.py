"""The answers of the explorer's pages, without the pages: results and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.ablation.component_sets import Components
from clip_lens_plugin.ablation.curve import AblationCurve, mean_ablation_curve
from clip_lens_plugin.ablation.direct import direct_logits
from clip_lens_plugin.ablation.total import component_hooks
from clip_lens_plugin.app.asked import Asked
from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.state import Ablation, parts_of
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.running.activations import TokensNotAvailableError
from clip_lens_plugin.maps.patch_text import HeadTextScores
from clip_lens_plugin.maps.scoring import scores_and_cosine
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.numerics.precision import full_precision


@dataclass(frozen=True)
class Nearness:
    """How near a picture is to texts.

    Attributes:
        texts: that were asked.
        cosine: with each.
        probability: of each among these texts alone: softmax of the logits; of SigLIP, which asks about each text for
            itself, the sigmoid of its logit.
    """

    texts: tuple[str, ...]
    cosine: Float[Tensor, " t"]
    probability: Float[Tensor, " t"]


def is_siglip(model: HookedCLIP) -> bool:
    """Whether the model was trained to judge each pair of image and text for itself."""
    return float(model.logit_bias) != 0.0


@full_precision()
def nearness(model: HookedCLIP, texts: tuple[str, ...], cosine: Float[Tensor, " t"]) -> Nearness:
    """Cosines, and the probabilities that the model's own logits give."""
    logits = float(model.logit_scale) * cosine.double() + float(model.logit_bias)
    return Nearness(texts, cosine, logits.sigmoid() if is_siglip(model) else logits.softmax(0))


def image_answer(explored: Explored, asked: Asked, texts: tuple[str, ...]) -> tuple[Nearness, HeadTextScores]:
    """How near the picture is to texts, and what each token adds to that through each head."""
    embeddings = explored.embedded(texts)
    scores = asked.scores(texts, embeddings)
    return nearness(explored.model, texts, scores.cosine), scores


@dataclass(frozen=True)
class SwitchedOff:
    """What texts are to a picture when parts of the model are replaced.

    Attributes:
        components: that are replaced.
        intact: the model as it is.
        direct: the parts replaced in the sum, the norm of the embedding as it was.
        total: the parts replaced in a run of the model, at every token, and later layers react; None before that run.
        remaining: what the heads that are left add, token by token: as in the model as it is, then as in the run, where
            that can be split over tokens.
        in_run: whether ``remaining`` is of the run.
        accuracy: of all rows, intact and with the parts replaced in the sum; None before that, and
            where there are no classes.
    """

    components: Components
    intact: Nearness
    direct: Nearness
    remaining: HeadTextScores
    total: Nearness | None = None
    in_run: bool = False
    accuracy: AblationCurve | None = None


def chosen_components(model: HookedCLIP, off: tuple[str, ...]) -> Components:
    """The parts of a state.

    Raises:
        ValueError: if there are none.
        IndexError: if the model has no such head or layer.
    """
    heads, layers, mlps = parts_of(off)
    if not off:
        raise ValueError("Choose what is switched off: heads, all heads of a layer, or MLPs.")
    parts = [Components.of_attention(model, sorted(layers))] if layers else []
    single = frozenset(each for each in heads if each[0] not in layers)
    parts += [Components.of_heads(model, sorted(single))] if single else []
    parts += [Components.of_mlps(model, sorted(mlps))] if mlps else []
    joined = parts[0]
    for each in parts[1:]:
        joined |= each
    return joined


def switched_off(
    explored: Explored, asked: Asked, texts: tuple[str, ...], off: tuple[str, ...], ablation: Ablation
) -> Iterator[SwitchedOff]:
    """The texts and maps with parts switched off in the sum, at once; then with a run of the model; then accuracy.

    Raises:
        ValueError: if nothing is switched off, or there are no pictures to take means from.
        IndexError: if the model has no such head or layer.
    """
    model = explored.model
    components = chosen_components(model, off)
    embeddings = explored.embedded(texts)
    scores = asked.scores(texts, embeddings)
    source = explored.sums if ablation == "mean" else explored.data
    (_, _, _), (_, _, direct) = direct_logits(
        asked.own, embeddings, [components], ablation, source, seed=0, constants=asked.own.constants
    )
    cosine = direct[0].to(scores.cosine)
    found = SwitchedOff(
        components,
        nearness(model, texts, scores.cosine),
        nearness(model, texts, cosine),
        _left(scores, scores.by_token, cosine, components),
    )
    yield found
    by_token, cosine = _in_run(explored, asked, embeddings, components, ablation)
    found = replace(found, total=nearness(model, texts, cosine))
    if by_token is not None:
        found = replace(found, remaining=_left(scores, by_token, cosine, components), in_run=True)
    yield found
    if explored.classifier is not None:
        curve = mean_ablation_curve(
            explored.data,
            explored.classifier,
            means_from=explored.sums if ablation == "mean" else None,
            components=[components],
            ablation=ablation,
        )
        yield replace(found, accuracy=curve)


def _left(
    scores: HeadTextScores,
    by_token: Float[Tensor, "l h n t"],
    cosine: Float[Tensor, " t"],
    components: Components,
) -> HeadTextScores:
    """The scores of the heads that are not switched off, and the cosine without those that are."""
    left = by_token.clone()
    for layer, head in components.heads:
        left[layer, head] = 0.0
    return replace(scores, by_token=left, cosine=cosine)


def _in_run(
    explored: Explored, asked: Asked, embeddings: Float[Tensor, "t e"], components: Components, ablation: Ablation
) -> tuple[Float[Tensor, "l h n t"] | None, Float[Tensor, " t"]]:
    """Scores by token, None where a layer's heads are no sums over tokens any more; and cosines."""
    values = explored.token_means if ablation == "mean" else {}
    hooks = component_hooks(explored.model, components, ablation, values, {})
    with torch.no_grad(), explored.model.hooks(fwd_hooks=hooks):
        try:
            by_token, cosine = scores_and_cosine(explored.model, asked.pixels, embeddings)
            return by_token[0], cosine[0]
        except TokensNotAvailableError:
            embedding = explored.model(asked.pixels)[0].to(embeddings)
    with full_precision():
        return None, equations.cosines(embedding[None], embeddings)[0]


Rows = list[tuple[str, ...]]
"""Of a table, as they are shown; the first is its header."""


def nearness_rows(**columns: Nearness | None) -> Rows:
    """One row per text: its cosine and probability in each case that is known."""
    known = {name: each for name, each in columns.items() if each is not None}
    first = next(iter(known.values()))
    names = [f"{name}: " if len(known) > 1 else "" for name in known]
    rows: Rows = [("text", *(f"{name}{what}" for name in names for what in ("cosine", "probability")))]
    for i, text in enumerate(first.texts):
        pairs = [(f"{float(each.cosine[i]):+.4f}", f"{float(each.probability[i]):.2%}") for each in known.values()]
        rows.append((text, *(number for pair in pairs for number in pair)))
    return rows
