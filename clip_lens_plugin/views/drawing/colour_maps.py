"""The colours of what lies over photographs, as matplotlib's figures take them."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import ListedColormap, to_rgb

from clip_lens_plugin.views.drawing.colours import ADDS, OPACITY, TAKES


def _clear_to(colour: str, steps: int) -> np.ndarray:
    rgba = np.empty((steps, 4))
    rgba[:, :3] = to_rgb(colour)
    rgba[:, 3] = np.linspace(0, OPACITY, steps)
    return rgba


# An odd number of steps, so that zero has one of its own.
SIGNED_OVER_PHOTOGRAPH = ListedColormap(
    np.concatenate([_clear_to(TAKES, 256)[:0:-1], _clear_to(ADDS, 256)]), "signed over a photograph"
)
WEIGHTS_OVER_PHOTOGRAPH = ListedColormap(_clear_to(ADDS, 256), "weights over a photograph")
