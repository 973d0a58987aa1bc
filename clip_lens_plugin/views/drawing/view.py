"""What the view functions return: it shows itself in notebooks, and saves as a page or a picture."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from clip_lens_plugin.files.whole import whole_files
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.shown import DRAWN
from clip_lens_plugin.views.drawing import scripts
from clip_lens_plugin.views.drawing.encoding import png_uri
from clip_lens_plugin.views.drawing.templates import TEMPLATES, page_head

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_OF_TITLE = 300
"""Characters."""


@dataclass(frozen=True)
class View:
    """HTML that Jupyter, JupyterLab, VS Code and Colab display, and a static picture of the same.

    Nothing is loaded from outside. Where scripts do not run, the picture stands in the place of what they draw.

    Attributes:
        title: plain text.
        body: HTML, escaped already; what scripts draw stands in it as :func:`drawn` made it.
        figure: draws the static picture.
        with_circuitsvis: whether the body holds views of circuitsvis.
    """

    title: str
    body: Markup
    figure: Callable[[], Figure]
    with_circuitsvis: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", one_line(self.title, MOST_OF_TITLE))

    def save(self, path: str | Path) -> Path:
        """Writes a page (.html) that opens offline, or the static picture (.png, .svg, .pdf); returns the path.

        The file appears whole or not at all: one that was there stays until then.

        Raises:
            ValueError: for another suffix.
            OSError: if the file cannot be written.
        """
        if Path(path).suffix == ".html":
            text = page(self.title, [self])
            with whole_files() as beside:
                beside(path).write_text(text, encoding="utf-8")
        elif Path(path).suffix in DRAWN:
            from clip_lens_plugin.views.drawing.figure_files import save_figure

            save_figure(self.figure(), path)
        else:
            raise ValueError(f"A view is saved as one of {' '.join(DRAWN)}, got {path}.")
        return Path(path)

    @cached_property
    def png(self) -> bytes:
        """The static picture."""
        return _png(self.figure)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        """HTML, and the picture for places that show none."""
        picture = base64.b64encode(self.png).decode()
        return {"text/html": self._repr_html_(), "image/png": picture, "text/plain": repr(self)}

    def _repr_html_(self) -> str:
        circuitsvis = self.with_circuitsvis and scripts.needed_in_this_cell()
        return str(scripts.style() + scripts.runtime() + (scripts.circuitsvis() if circuitsvis else "") + self.html())

    def html(self) -> Markup:
        """The body under its title, without style and scripts."""
        return Markup('<section class="clip-lens" aria-label="{}">{}</section>').format(self.title, self.body)

    def __repr__(self) -> str:
        return f"View({self.title!r})"


def drawn(
    kind: str,
    data: dict[str, object],
    figure: Callable[[], Figure] | Markup,
    description: str,
    on_demand: str | None = None,
) -> Markup:
    """What the script for ``kind`` draws from ``data``; its static picture is shown until then.

    Args:
        kind: the name under which the runtime knows the script, see ``static/runtime.js``.
        data: JSON; what the script shows of it, it shows as text.
        figure: draws the static picture; or stands in its place, an element of the class "cl-static".
        description: of the picture, for who cannot see it.
        on_demand: what a button says that has to be pressed first, for what takes a browser long.
    """
    still = figure if isinstance(figure, Markup) else _image(figure, description)
    wait = Markup(' data-on-demand="{}"').format(on_demand) if on_demand else Markup()
    return Markup('<div class="cl-drawn" data-kind="{}"{}>{}{}</div>').format(kind, wait, still, scripts.data(data))


def aside(text: str) -> Markup:
    """A paragraph in soft letters, which says how to read what it stands beside."""
    return Markup('<p class="cl-soft">{}</p>').format(text)


def static(figure: Callable[[], Figure], description: str) -> Markup:
    """A figure as a picture that no script changes."""
    return Markup('<div class="cl-wide cl-figure">{}</div>').format(_image(figure, description))


def _image(figure: Callable[[], Figure], description: str) -> Markup:
    image = Markup('<img class="cl-static" alt="{}" src="{}">')
    return image.format(one_line(description), png_uri(_png(figure)))


def _png(figure: Callable[[], Figure]) -> bytes:
    from clip_lens_plugin.views.drawing.figure_files import figure_png  # matplotlib, which pages can do without.

    return figure_png(figure())


def page(title: str, views: Sequence[View]) -> str:
    """One HTML file with the views one under the other, which opens offline.

    Args:
        title: plain text.
        views: one or more.

    Raises:
        ValueError: if there is no view.
    """
    if not views:
        raise ValueError("A page needs at least one view.")
    return TEMPLATES.get_template("page.html.j2").render(title=title, views=views, head=head_of(views))


def head_of(views: Sequence[View]) -> Markup:
    """What the head of a page with these views holds."""
    return page_head(any(view.with_circuitsvis for view in views))
