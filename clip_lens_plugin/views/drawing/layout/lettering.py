"""Letters of figures as they are written: names and texts of users are no mathematics and no LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
from matplotlib.figure import Figure

from clip_lens_plugin.views.drawing.layout.sheet import SMALL, TEXT

P = ParamSpec("P")

SIZES: dict[Any, float] = {
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
}
"""Of letters and lines, for figures as wide as a paper's column or page."""


@contextmanager
def plain_lettering() -> Iterator[None]:
    """Text that is made inside is set as it stands and in our sizes, whatever the user's settings of matplotlib say.

    A dollar begins no mathematics, which could also fail to be read; and LaTeX, which can read files and run programs,
    is given nothing to set.
    """
    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False, **SIZES}):
        yield


def plainly_lettered(make: Callable[P, Figure]) -> Callable[P, Figure]:
    """The function, its figure made within :func:`plain_lettering`."""

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plain_lettering():
            return make(*args, **kwargs)

    return made
