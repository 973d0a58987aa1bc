"""How each kind of result is drawn: what ``result.view()`` calls, see :data:`clip_lens_plugin.shown.VIEWS`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from PIL import Image

from clip_lens_plugin.ablation.completeness import TextSpanCompleteness
from clip_lens_plugin.ablation.curve import AblationCurve
from clip_lens_plugin.decisions.decision import Decision
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.decomposition.parts.component_shares import Shares
from clip_lens_plugin.describe.class_result import ClassHeads
from clip_lens_plugin.describe.spans import HeadSpan, TextSpanResult
from clip_lens_plugin.describe.sparse_result import SparseText
from clip_lens_plugin.groups.effects import GroupEffects
from clip_lens_plugin.groups.spurious.result import SpuriousHeads
from clip_lens_plugin.higher_order.tree import UpstreamTree
from clip_lens_plugin.higher_order.upstream import Upstream
from clip_lens_plugin.interactions.interacting import Interaction
from clip_lens_plugin.maps.leading import LeadingTexts
from clip_lens_plugin.maps.patch_text import HeadTextScores, PatchTextMap
from clip_lens_plugin.patching.attributed import AttributionPatching
from clip_lens_plugin.patching.heads import HeadPatching
from clip_lens_plugin.report.in_reach import given_pictures, pictures_at, pictures_in_reach
from clip_lens_plugin.report.pictures import Pictures
from clip_lens_plugin.retrieval.found import ExtremeImages, ImagesOfData, NearestImages
from clip_lens_plugin.retrieval.strongest import StrongestNeurons
from clip_lens_plugin.roles.growth import RoleGrowth
from clip_lens_plugin.roles.result import HeadRoles
from clip_lens_plugin.saliency.result import SaliencyMap
from clip_lens_plugin.segmentation.result import SegmentationScores
from clip_lens_plugin.views.decision import decision_view
from clip_lens_plugin.views.drawing.view import View
from clip_lens_plugin.views.gallery import head_gallery_view, neighbours_view
from clip_lens_plugin.views.heads.classes import class_heads_view
from clip_lens_plugin.views.heads.groups import group_effects_view, spurious_heads_view
from clip_lens_plugin.views.heads.roles import role_growth_view, roles_view
from clip_lens_plugin.views.maps.interaction import interaction_view
from clip_lens_plugin.views.maps.leading import leading_view
from clip_lens_plugin.views.maps.patch_text import head_text_view, patch_text_view
from clip_lens_plugin.views.maps.saliency import saliency_view
from clip_lens_plugin.views.maps.segmentation import segmentation_view
from clip_lens_plugin.views.neurons.neurons import neuron_gallery_view
from clip_lens_plugin.views.neurons.upstream import tree_view, upstream_view
from clip_lens_plugin.views.patching import attribution_patching_view, head_patching_view
from clip_lens_plugin.views.report.summaries import ablation_view, head_view, text_span_completeness_view
from clip_lens_plugin.views.sparse import shown_rows, sparse_view
from clip_lens_plugin.views.tables import head_texts_view, text_span_view
from clip_lens_plugin.warned import warn

NO_PICTURE = Image.new("RGB", (96, 96), "lightgrey")
"""In the place of one that is not in reach."""


def maps(result: PatchTextMap, **options: Any) -> View:
    """See :func:`~clip_lens_plugin.views.maps.patch_text.patch_text_view`."""
    return patch_text_view(result, **options)


def leading(result: LeadingTexts, **options: Any) -> View:
    """See :func:`~clip_lens_plugin.views.maps.leading.leading_view`."""
    return leading_view(result, **options)


def saliency(result: SaliencyMap, **options: Any) -> View:
    """See :func:`~clip_lens_plugin.views.maps.saliency.saliency_view`."""
    return saliency_view(result, **options)


def head_scores(result: HeadTextScores, **options: Any) -> View:
    """See :func:`~clip_lens_plugin.views.maps.patch_text.head_text_view`."""
    return head_text_view(result, **options)


def class_heads(result: ClassHeads, **options: Any) -> View:
    """See :func:`~clip_lens_plugin.views.heads.classes.class_heads_view`."""
    return class_heads_view(result, **options)


def decision(result: Decision, **options: Any) -> View:
    """See :func:`~clip_lens_plugin.views.decision.decision_view`."""
    return decision_view(result, **options)


def interaction(result: Interaction, **options: Any) -> View:
    """See :func:`~clip_lens_plugin.views.maps.interaction.interaction_view`."""
    return interaction_view(result, **options)


def text_span(result: TextSpanResult, **options: Any) -> View:
    """See :func:`~clip_lens_plugin.views.tables.text_span_view`."""
    return text_span_view(result, **options)


def head_span(result: HeadSpan) -> View:
    """See :func:`~clip_lens_plugin.views.tables.head_texts_view`."""
    return head_texts_view(result)


def sparse(result: SparseText, images: Any = None, **options: Any) -> View:
    """See :func:`~clip_lens_plugin.views.sparse.sparse_view`; names alone where pictures are not in reach.

    Args:
        images: the pictures by row, or in a list; or the data set that a store was collected from, if it is not found
            by itself.
    """
    rows = list(shown_rows(result))
    if isinstance(images, list | tuple):
        images = dict(enumerate(images))
    if isinstance(images, Mapping) or result.data is None:
        return sparse_view(result, images, **options)
    found = _in_reach(result.data, images)
    pictures = None if found is None else found.shown(rows, result.data.readout.image_model.preprocess)
    return sparse_view(result, pictures, **options)


def ablation(result: AblationCurve) -> View:
    """See :func:`~clip_lens_plugin.views.report.summaries.ablation_view`."""
    return ablation_view(result)


def text_span_completeness(result: TextSpanCompleteness) -> View:
    """See :func:`~clip_lens_plugin.views.report.summaries.text_span_completeness_view`."""
    return text_span_completeness_view(result)


def group_effects(result: GroupEffects) -> View:
    """See :func:`~clip_lens_plugin.views.heads.groups.group_effects_view`."""
    return group_effects_view(result)


def spurious_heads(result: SpuriousHeads) -> View:
    """See :func:`~clip_lens_plugin.views.heads.groups.spurious_heads_view`."""
    return spurious_heads_view(result)


def head_patching(result: HeadPatching) -> View:
    """See :func:`~clip_lens_plugin.views.patching.head_patching_view`."""
    return head_patching_view(result)


def attribution_patching(result: AttributionPatching) -> View:
    """See :func:`~clip_lens_plugin.views.patching.attribution_patching_view`."""
    return attribution_patching_view(result)


def segmentation(result: SegmentationScores) -> View:
    """See :func:`~clip_lens_plugin.views.maps.segmentation.segmentation_view`."""
    return segmentation_view(result)


def shares(result: Shares) -> View:
    """The shares of the heads, see :func:`~clip_lens_plugin.views.report.summaries.head_view`."""
    return head_view(pd.DataFrame(result[result["part"] == "head"]))


def roles(result: HeadRoles) -> View:
    """See :func:`~clip_lens_plugin.views.heads.roles.roles_view`."""
    return roles_view(result)


def role_growth(result: RoleGrowth) -> View:
    """See :func:`~clip_lens_plugin.views.heads.roles.role_growth_view`."""
    return role_growth_view(result)


def upstream(result: Upstream, **options: Any) -> View:
    """See :func:`~clip_lens_plugin.views.neurons.upstream.upstream_view`."""
    return upstream_view(result, **options)


def upstream_tree(result: UpstreamTree) -> View:
    """See :func:`~clip_lens_plugin.views.neurons.upstream.tree_view`."""
    return tree_view(result)


def nearest(result: NearestImages, images: Any = None) -> View:
    """See :func:`~clip_lens_plugin.views.gallery.neighbours_view`; grey where a picture is not in reach.

    Args:
        images: the data set that the store was collected from, if it is not found by itself.
    """
    data, row = _data(result), result.query_row
    asked = [] if row is None else [row]
    pictures = _shown(data, [*result["row"], *asked], _known(result, images))
    names = _names(data, [*result["row"], *asked])
    options: dict[str, Any] = {"heads": result.chosen_heads}
    if result.text is not None:
        return neighbours_view(result.text, result, pictures, names, **options)
    if row is not None:
        return neighbours_view(pictures[row], result, pictures, names, query_name=names[row], **options)
    if result.query is None:
        return neighbours_view(NO_PICTURE, result, pictures, names, **options)
    return neighbours_view(result.query.open(), result, pictures, names, query_name=result.query.name, **options)


def extreme(result: ExtremeImages, images: Any = None) -> View:
    """See :func:`~clip_lens_plugin.views.gallery.head_gallery_view`; names where no picture is in reach.

    Args:
        images: the data set that the store was collected from, if it is not found by itself.
    """
    data, rows = _data(result), list(result["row"])
    found = _known(result, images)
    spans = result.spans
    if spans is None:
        texts = list(dict.fromkeys(result["text"]))
        heads = dict.fromkeys(zip(result["layer"], result["head"], strict=True))
        spans = [HeadSpan.of_texts(layer, head, texts) for layer, head in heads]
    pictures = None if found is None else _shown(data, rows, found)
    return head_gallery_view(spans, result, pictures, _names(data, rows))


def neurons(result: StrongestNeurons, images: Any = None) -> View:
    """See :func:`~clip_lens_plugin.views.neurons.neurons.neuron_gallery_view`; names where no picture is in reach.

    Args:
        images: the data set that the store was collected from, if it is not found by itself.
    """
    positions, data = sorted({image.position for each in result.neurons for image in each.images}), result.data
    found = None if data is None else pictures_at(data, positions, images)
    if data is None or found is None:
        _say_out_of_reach()
        return neuron_gallery_view(result, None)
    shown = found.shown(positions, data.readout.image_model.preprocess)
    return neuron_gallery_view(result, {position: shown.get(position, NO_PICTURE) for position in positions})


def _data(result: ImagesOfData) -> Data:
    if result.data is None:
        raise ValueError("This table came from a file, or another process, and does not know its images: search again.")
    return result.data


def _names(data: Data, rows: Iterable[int]) -> dict[int, str]:
    names = data.names  # Made anew at each call, of contributions.
    return {row: f"image {row}" if names is None else names[row] for row in rows}


def _known(result: ImagesOfData, images: Any) -> Pictures | None:
    """The pictures that a table knows, or else :func:`_in_reach`."""
    return result.pictures if images is None and result.pictures is not None else _in_reach(_data(result), images)


def _in_reach(data: Data, images: Any) -> Pictures | None:
    """The pictures of the data; None, with a warning, where they are not in reach."""
    if isinstance(images, Pictures):
        return images
    if images is not None and data.origin is not None:
        return given_pictures(data, images)
    found = pictures_in_reach(data)
    if found is None:
        _say_out_of_reach()
    return found


def _say_out_of_reach() -> None:
    warn(
        "The pictures of these images are not in reach, so names or grey stand in their place. Give the data set that "
        "was collected: view(images='FOLDER'), save(path, images='FOLDER')."
    )


def _shown(data: Data, rows: list[int], found: Pictures | None) -> dict[int, Image.Image]:
    """What the model sees of each row; grey where that is not in reach."""
    shown = {} if found is None else found.shown(sorted(set(rows)), data.readout.image_model.preprocess)
    return {row: shown.get(row, NO_PICTURE) for row in rows}
