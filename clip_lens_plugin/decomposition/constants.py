"""The constants, which belong to no head and no MLP: kept as separate components, or shared out over all.

These are the mean that ``ln_final`` removes from the stream, its β (with an attention pool's own biases) and the
attention's output biases. Source of the second: the code of Gandelsman, Efros and Steinhardt, ICLR 2024, where each of
the 2 L + 1 terms (the embedded image, each layer's attention, each MLP) takes an equal part of the mean and of β, and
each head an equal part of its layer's.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from clip_lens_plugin.arguments import checked_choice

Constants = Literal["separate", "shared"]
GivenConstants = Literal["separate", "shared", "apart", "spread"]
"""As users may write them: the first versions said "apart" and "spread"."""

EARLIER: dict[str, Constants] = {"apart": "separate", "spread": "shared"}


def checked_constants(given: Any) -> Constants:
    """The word in use: "separate" or "shared".

    Raises:
        ValueError: if it is neither, nor one of the earlier words for them.
    """
    word = EARLIER.get(given, given) if isinstance(given, str) else given
    return cast(Constants, checked_choice("constants", word, ("separate", "shared")))
