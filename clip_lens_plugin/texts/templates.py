"""Templates that a text is put into, for example "a photo of a {}"."""

from __future__ import annotations

from collections.abc import Callable

Template = str | Callable[[str], str]
"""A text with "{}" where the text goes, or a function from text to text, as open_clip's are."""


def fill(template: Template, text: str) -> str:
    """The template with the text in it.

    Raises:
        ValueError: if a template that is a text has no "{}".
    """
    if not isinstance(template, str):
        return template(text)
    if "{}" not in template:
        raise ValueError(f"A template must hold '{{}}' where the text goes, got {template!r}.")
    return template.replace("{}", text)
