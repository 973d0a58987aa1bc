"""A view in a frame of its own, which can neither read the page around it nor speak to the server."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from markupsafe import Markup

from clip_lens_plugin.app.long_work import Working
from clip_lens_plugin.views.drawing.view import View, page

HEIGHT = 720
"""Pixels; longer views scroll."""


def framed(views: Sequence[View], height: int = HEIGHT) -> str:
    """HTML of the views in a sandboxed frame: their scripts run, without the page's origin."""
    title = views[0].title
    content = page(title, views)
    # A browser that is given another srcdoc while it reads the first may stay with that: Gradio keeps an element whose
    # name is the same, so each content has an element, and with it a frame, of its own.
    name = f"clip-lens-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    frame = Markup(
        '<{} style="display: block"><iframe class="clip-lens-frame" title="{}" sandbox="allow-scripts" '
        'referrerpolicy="no-referrer" height="{}" srcdoc="{}"></iframe></{}>'
    )
    return str(frame.format(name, title, height, content, name))


def note(text: str) -> str:
    """A sentence in the place of a view."""
    return str(Markup('<p class="clip-lens-note" role="status">{}</p>').format(text))


def working(now: Working) -> str:
    """How far long work has come, in the place of a view."""
    value = "" if now.share is None else Markup(' value="{:.3f}"').format(now.share)
    return str(
        Markup('<p class="clip-lens-note" role="status">{} <progress{}></progress></p>').format(now.what, Markup(value))
    )
