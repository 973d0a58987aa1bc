"""The templates of pages, and what stands in the head of one that opens offline."""

from __future__ import annotations

from typing import Any

import jinja2
from markupsafe import Markup

from clip_lens_plugin.plain_text import printable
from clip_lens_plugin.views.drawing import scripts


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


def page_head(with_circuitsvis: bool, *own: str) -> Markup:
    """What the head of a page holds: content policy, style, and each script once.

    Args:
        with_circuitsvis: whether a view needs it.
        own: sources of scripts that the page adds, which the policy lets run.
    """
    policy = Markup('<meta http-equiv="Content-Security-Policy" content="{}">').format(scripts.content_policy(*own))
    bundle = scripts.circuitsvis() if with_circuitsvis else Markup()
    return policy + scripts.style() + scripts.runtime() + bundle
