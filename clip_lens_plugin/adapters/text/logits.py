"""What CLIP's logit has beside a cosine."""

from __future__ import annotations

from typing import Any

from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CustomTextCLIP
from torch import Tensor

from clip_lens_plugin.dependencies.names import attribute


def logit_bias_of(clip: Any) -> Tensor | None:
    """What is added to a model's logits, None where nothing is.

    Raises:
        AttributeError: if a model of open_clip's lacks it, which may be None there, but is always set.
    """
    if isinstance(clip, CLIP | CustomTextCLIP | CoCa):
        return attribute(clip, "logit_bias", "open_clip_torch", __name__)
    # A model in open_clip's shape may truly have none, as those of OpenAI's own package.
    return getattr(clip, "logit_bias", None)
