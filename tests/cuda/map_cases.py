"""Cases of saliency maps and of their scores on masks; of methods without gradients, which a fake GPU has none of."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np

import clip_lens_plugin as lens
from clip_lens_plugin import views
from clip_lens_plugin.segmentation import MaskedImage
from tests.cuda.given import TEXTS, Given, case

METHODS = ["patch_text", "v_v", "random"]


class Masked:
    """The given pictures with half of each as the mask."""

    title, texts = "halves", TEXTS[:3]

    def __init__(self, given: Given) -> None:
        self._pictures = given.pictures[:3]

    def __len__(self) -> int:
        return 3

    def __getitem__(self, position: int, /) -> MaskedImage:
        picture = self._pictures[position]
        mask = np.zeros(picture.size[::-1], dtype=bool)
        mask[: picture.height // 2] = True
        return MaskedImage(str(position), picture, TEXTS[position], mask, other=~mask)


@case
def saliency(given: Given) -> Any:
    model, images = given.model, given.images
    maps = [lens.saliency_map(model, images[0], TEXTS[:2], each, against=TEXTS[2:5]) for each in METHODS]
    several = lens.saliency_maps(model, images[:3], TEXTS[0], "maskclip")
    assert all(isinstance(each, lens.SaliencyMap) for each in maps)
    drawn = views.saliency_view(maps[0], given.pictures[0])
    return [each.values for each in maps], [each.values for each in several], drawn.title


@case
def segmenting(given: Given) -> Any:
    mixed = {"against": [*TEXTS[1:4]], "templates": ("{}", "a photo of {}"), "batch_size": 2}
    with patch("torch.cuda.synchronize"):  # A fake GPU has nothing to wait for.
        scores = lens.segmentation_scores(given.model, ["maskclip", "random"], Masked(given), overlays=1, **mixed)
    assert isinstance(scores, lens.SegmentationScores)
    drawn = views.segmentation_view(scores)
    shown = [scores.overlays[0].maps[label] for label in scores.kinds]
    return scores.rows[["kind", "named", "other"]], [each.tolist() for each in shown], drawn.title
