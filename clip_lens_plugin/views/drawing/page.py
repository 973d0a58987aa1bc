"""Several views as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from clip_lens_plugin.plain_text import printable
from clip_lens_plugin.views.drawing import scripts

if TYPE_CHECKING:
    from clip_lens_plugin.views.drawing.view import View


def _shown(value: Any) -> Any:
    """What a template writes: plain text made printable, and then escaped; what is markup already stays."""
    return printable(value) if type(value) is str else value


TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("clip_lens_plugin.views"),
    autoescape=True,
    finalize=_shown,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(title: str, views: Sequence[View]) -> str:
    """The views one under the other, with style and scripts once.

    Args:
        title: plain text.
        views: one or more.

    Raises:
        ValueError: if there is no view.
    """
    if not views:
        raise ValueError("A page needs at least one view.")
    return TEMPLATES.get_template("page.html.j2").render(title=title, views=views, head=page_head(views))


def page_head(views: Sequence[View]) -> Markup:
    """What the head of a page with these views holds: content policy, style, and each script once."""
    policy = Markup('<meta http-equiv="Content-Security-Policy" content="{}">').format(scripts.content_policy())
    bundle = scripts.circuitsvis() if any(view.with_circuitsvis for view in views) else Markup()
    return policy + scripts.style() + scripts.runtime() + bundle
