"""Letters of figures as they are written: names and texts of users are no mathematics and no LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec

import matplotlib
from matplotlib.figure import Figure

P = ParamSpec("P")


@contextmanager
def plain_lettering() -> Iterator[None]:
    """Text that is made inside is set as it stands, whatever the user's settings of matplotlib say.

    A dollar begins no mathematics, which could also fail to be read; and LaTeX, which can read files and run programs,
    is given nothing to set.
    """
    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
        yield


def plainly_lettered(make: Callable[P, Figure]) -> Callable[P, Figure]:
    """The function, its figure made within :func:`plain_lettering`."""

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plain_lettering():
            return make(*args, **kwargs)

    return made
