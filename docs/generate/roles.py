"""Docstrings as this site reads them.

A Sphinx role, such as :func:`decompose`, becomes a link, or plain code where the site has no page for it. Arguments or
errors that share one description, "layer, head: which head.", each get it. A literal block needs no second colon.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|attr|mod|data|exc):`(~?)([\w.]+)`")
SHARED = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)", re.MULTILINE)
LITERAL = re.compile(r"::$", re.MULTILINE)
DOUBLE = re.compile(r"``(.+?)``")


class Roles(griffe.Extension):
    """Rewrites the docstrings of a package when it has been read."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Every docstring of the package, whatever holds it."""
        rewrite(pkg)


def rewrite(holder: griffe.Object) -> None:
    """The docstrings of an object and of what it holds."""
    if holder.docstring is not None:
        plain = LITERAL.sub(":", SHARED.sub(each_alone, DOUBLE.sub(r"`\1`", holder.docstring.value)))
        holder.docstring.value = ROLE.sub(lambda role: linked(holder, role), plain)
    if isinstance(holder, griffe.Class):
        forget_declarations(holder)
    for member in holder.members.values():
        if not member.is_alias:
            rewrite(member)


def forget_declarations(holder: griffe.Class) -> None:
    """Takes out what a class only declares, for the type checker, since another base defines and describes it."""
    if any("dataclass" in str(decorator.value) for decorator in holder.decorators):
        return
    for name, member in list(holder.members.items()):
        is_bare = member.is_attribute and not member.is_alias and "property" not in member.labels
        if is_bare and member.value is None and member.docstring is None:
            holder.del_member(name)


def each_alone(entry: re.Match[str]) -> str:
    """The entry once for each name that it is of."""
    indent, names, text = entry.groups()
    return "\n".join(f"{indent}{name}: {text}" for name in names.split(", "))


def linked(holder: griffe.Object, role: re.Match[str]) -> str:
    """A link that is dropped, and its text kept, if what it names is on no page."""
    short, name = role.groups()
    return f'<autoref identifier="{target(holder, name)}" optional><code>{shown(short, name)}</code></autoref>'


def shown(short: str, name: str) -> str:
    """The last part of a name where the role says so, or where the whole is a path in the package."""
    return name.rpartition(".")[2] if short or name.startswith("clip_lens_plugin.") else name


def target(holder: griffe.Object, name: str) -> str:
    """Where the name leads from this docstring, as a path; the name itself if it leads nowhere."""
    try:
        path = holder.resolve(name.partition(".")[0])
    except griffe.NameResolutionError:
        return name
    rest = name.partition(".")[2]
    return f"{path}.{rest}" if rest else path
