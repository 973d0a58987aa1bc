"""The card of an edited checkpoint: what was changed and what that does, in Markdown."""

from __future__ import annotations

import re
from typing import Any

import jinja2
from markupsafe import Markup, escape

from clip_lens_plugin.editing.effects import EditEffects
from clip_lens_plugin.model.edits import Edit
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.statistics.intervals import Interval


def in_markdown(text: str) -> Markup:
    """The text as one line that Markdown shows as it is: no markup, no HTML, no cell of a table ends in it."""
    return escape(re.sub(r"([\\`*_\[\]~#|])", r"\\\1", one_line(text)))


def _shown(value: Any) -> Any:
    return in_markdown(value) if type(value) is str else value


def _share(found: Interval) -> str:
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("clip_lens_plugin.editing"),
    autoescape=False,  # Every value becomes Markdown's plain text, which is HTML's as well.
    finalize=_shown,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters["share"] = _share


def card(name: str, edits: tuple[Edit, ...], effects: EditEffects | None, about: dict[str, Any]) -> str:
    """The card.

    Args:
        name: of the model.
        edits: what was changed.
        effects: that were measured; None if none were.
        about: how the folder is loaded: ``loader`` ("open_clip" or a class of Hugging Face's), ``dtype``,
            ``preprocessing`` (whether its settings are in the folder), ``copied`` (names of further files) and
            ``context_length`` (of the tokenizer whose merges are among them; None where there is none).
    """
    return TEMPLATES.get_template("card.md").render(name=name, edits=edits, effects=effects, **about)
