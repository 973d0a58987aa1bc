"""What CLIP's logit has beside a cosine."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from clip_lens_plugin.dependencies.of_open_clip import held_by


def logit_bias_of(clip: Any) -> Tensor | None:
    """What is added to a model's logits, None where nothing is.

    Raises:
        AttributeError: if a model of open_clip's lacks it, which may be None there, but is always set.
    """
    return held_by(clip, "logit_bias", __name__)


def logit_scale_of(clip: Any) -> Tensor | None:
    """The logarithm of what cosines are multiplied by, None for an image tower alone.

    Raises:
        AttributeError: if a model of open_clip's lacks it.
    """
    return held_by(clip, "logit_scale", __name__)
