"""How well maps of several methods lie on what a text names, in one scorer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.hooks.interventions import refuse_left_hooks
from clip_lens_plugin.segmentation.kept import KeptRows, Row, model_plan
from clip_lens_plugin.segmentation.kinds import Contrast, Kind, kinds_of, reference_of
from clip_lens_plugin.segmentation.masked.dataset import MaskedImage, SegmentationDataset
from clip_lens_plugin.segmentation.overlays import overlays_of
from clip_lens_plugin.segmentation.plane import Mode, Planes
from clip_lens_plugin.segmentation.result import SegmentationScores
from clip_lens_plugin.segmentation.running import maps_of, pixels_of
from clip_lens_plugin.segmentation.text_targets import TextTargets
from clip_lens_plugin.texts.templates import Template, fill


@takes_bridges
def segmentation_scores(
    model: HookedCLIP,
    methods: Any,
    dataset: SegmentationDataset,
    mode: Mode = "original",
    *,
    contrast: Contrast = "both",
    against: Iterable[str] | None = None,
    templates: Iterable[Template] = ("{}",),
    reference: str = "patch_text",
    batch_size: int = 16,
    overlays: int = 6,
    resume: str | Path | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> SegmentationScores:
    """Makes the map of every image's text by every method, and scores each on the image's mask.

    The protocol is that of Chefer et al.: see :func:`~clip_lens_plugin.segmentation.scores.image_scores` for one image
    and :func:`~clip_lens_plugin.segmentation.figures.figures_of` for the set. Images are opened a batch at a time.

    Args:
        methods: names of :data:`~clip_lens_plugin.saliency.methods.METHODS` or such methods, one or several; None for
            all.
        dataset: images with masks, such as :class:`~clip_lens_plugin.segmentation.MaskFolder`.
        mode: where maps are scored: "original", "paper" or "squash", see :mod:`clip_lens_plugin.segmentation.plane`.
        contrast: whether a text is contrasted with others; "both" scores methods that take a text each way.
        against: what texts are contrasted with; the data set's other texts if not given. It is the same for all
            methods.
        templates: what texts are put into; the mean of several is taken, as of a zero-shot classifier.
        reference: the method that others are compared with, with its contrast where there is one; the first if it is
            not among the methods.
        batch_size: images in a run.
        overlays: images whose maps are kept to be looked at, evenly spaced; they are run once more.
        resume: file that scores are kept in every half a minute; if it is there, the run goes on from it.
        seed: of the bootstrap.
        on_progress: called with (images done, images in all) after each batch.

    Raises:
        ValueError: if a method, a mode or a contrast is unknown, the data set is none or empty, a number is too small,
            hooks were left on the model, a map is not finite, or ``resume`` is of another run.
        UnreadableImageError: a ValueError, if a picture or a mask cannot be used; the message names it.
    """
    refuse_left_hooks(model, "segmentation_scores is of the model as it is")
    batch_size, n_shown = checked_number("batch_size", batch_size), checked_number("overlays", overlays, least=0)
    if not isinstance(dataset, SegmentationDataset):
        raise ValueError(
            f"dataset must be images with masks, such as MaskFolder('photos', names='names.csv'), "
            f"ImageNetSegmentation('gtsegs_ijcv.mat') or DrawnObjects(200), all of clip_lens_plugin.segmentation; got "
            f"{dataset!r:.60}."
        )
    seed, n = checked_number("seed", seed, least=0), len(dataset)
    if n == 0:
        raise ValueError("The data set holds no image.")
    planes = Planes.of(model, mode)
    filled = [templates] if isinstance(templates, str) else list(templates)
    texts = list(dict.fromkeys(dataset.texts))
    targets = TextTargets.of(model, texts, against, filled)
    kinds = kinds_of(methods, contrast, targets.has_others(texts))
    plan = {
        "data set": [dataset.title, n, texts],
        "mode": mode,
        "methods": [kind.label for kind in kinds],
        "against": sorted(text for text, row in targets.rows.items() if row in targets.against),
        "templates": [fill(each, "{}") for each in filled],
    }
    kept = KeptRows.of(resume, plan if resume is None else {**plan, **model_plan(model)})
    done = kept.n_images(len(kinds))
    on_progress(done, n)
    try:
        for start in range(done, n, batch_size):
            images = [dataset[i] for i in range(start, min(n, start + batch_size))]
            kept.add(_rows(model, kinds, images, start, planes, targets))
            on_progress(start + len(images), n)
    finally:
        kept.write()
    return SegmentationScores(
        rows=pd.DataFrame(kept.rows),
        kinds={kind.label: kind.title for kind in kinds},
        reference=reference_of(kinds, reference),
        mode=mode,
        model_name=model.cfg.model_name,
        title=dataset.title,
        seed=seed,
        overlays=overlays_of(model, kinds, dataset, planes, targets, n_shown, batch_size),
    )


def _rows(
    model: HookedCLIP,
    kinds: tuple[Kind, ...],
    images: list[MaskedImage],
    start: int,
    planes: Planes,
    targets: TextTargets,
) -> list[Row]:
    """One row for each image and kind, image by image."""
    unknown = sorted({image.text for image in images} - set(targets.rows))
    if unknown:
        raise ValueError(f"The data set's texts lack {few(unknown)}, which is that of an image: texts must name each.")
    own = [planes.plane(image) for image in images]
    pixels, texts = pixels_of(model, own), [image.text for image in images]
    found = [maps_of(model, kind, pixels, texts, targets) for kind in kinds]
    rows: list[Row] = []
    for i, (image, plane) in enumerate(zip(images, own, strict=True)):
        for kind, maps in zip(kinds, found, strict=True):
            try:
                scores = plane.scores(maps.values[i])
            except ValueError as error:
                raise ValueError(f"{kind.label} on {image.name}, {image.text!r}: {error}.") from error
            described = {
                "image": start + i,
                "name": image.name,
                "text": image.text,
                "group": image.group or image.name,
                "kind": kind.label,
                "method": kind.method.name,
                "contrast": kind.contrast,
            }
            rows.append({**described, **asdict(scores), "seconds": maps.seconds})
    return rows
