"""Style and scripts of views: read from this package and from circuitsvis's own bundle, never from a network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sys
from functools import cache
from importlib.resources import files

from markupsafe import Markup

from clip_lens_plugin.dependencies.of_circuitsvis import bundle

COMPONENTS = ("runtime.js", "photo_map.js", "text_choice.js", "patch_text.js", "words.js", "attention.js")
"""The runtime, which finds and draws views, then what it draws."""

STYLES = (
    "style.css",
    "patch_text.css",
    "words.css",
    "attention.css",
    "gallery.css",
    "still.css",
    "decision.css",
    "sparse.css",
    "tree.css",
    "segmentation.css",
)

CIRCUITSVIS_ID = "clip-lens-circuitsvis"

_cell_with_circuitsvis: list[str | None] = []
"""The notebook cell, if any, whose output holds the bundle."""


def needed_in_this_cell() -> bool:
    """Whether the notebook output that is being made has to hold circuitsvis's bundle: once a notebook is enough.

    The cell that held it before holds it again when it is run again. Colab shows every output on a page of its own.
    """
    if "google.colab" in sys.modules:
        return True
    cell = _running_cell()
    if not _cell_with_circuitsvis:
        _cell_with_circuitsvis.append(cell)
    return cell is None or _cell_with_circuitsvis == [cell]


def _running_cell() -> str | None:
    """Identity of the cell that runs; of the execution where the frontend does not say; None outside of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return None
    request = getattr(shell, "parent_header", None)  # ipykernel keeps the whole message under this name
    metadata = request.get("metadata", {}) if isinstance(request, dict) else {}
    return str(metadata.get("cellId") or f"execution {shell.execution_count}")


@cache
def style() -> Markup:
    """The style element of all views."""
    return Markup("<style>{}</style>").format(Markup("".join(_static(name) for name in STYLES)))


@cache
def report_style() -> Markup:
    """The style element of a report's page, besides that of its views."""
    return Markup("<style>{}</style>").format(Markup(_static("report.css")))


@cache
def runtime_source() -> str:
    """Our own scripts as one; run twice on a page, the second does nothing."""
    parts = "\n".join(_static(name) for name in COMPONENTS)
    return f"(() => {{\n'use strict';\nif (window.clipLens) return;\n{parts}\n}})();"


@cache
def runtime() -> Markup:
    """The script element of our own scripts."""
    return Markup("<script>{}</script>").format(Markup(runtime_source()))


@cache
def report_script_source() -> str:
    """The script of a report's page, besides that of its views: the search box."""
    return f"(() => {{\n'use strict';\n{_static('find.js')}\n}})();"


@cache
def report_script() -> Markup:
    """Its element."""
    return Markup("<script>{}</script>").format(Markup(report_script_source()))


@cache
def circuitsvis() -> Markup:
    """circuitsvis's local bundle, compressed; the runtime unpacks and runs it when a view first needs it."""
    packed = base64.b64encode(gzip.compress(circuitsvis_source().encode(), mtime=0)).decode()
    return Markup('<script type="text/plain" id="{}">{}</script>').format(CIRCUITSVIS_ID, packed)


@cache
def circuitsvis_source() -> str:
    """The bundle without the address of its source map, which browsers' tools would look for."""
    return bundle().partition("//# sourceMappingURL=")[0]


def content_policy(*own: str) -> str:
    """What a page may do: run exactly these scripts, and load nothing.

    Args:
        own: sources of scripts that the page has besides those of views.
    """
    hashes = " ".join(_hash(source) for source in (runtime_source(), circuitsvis_source(), *own))
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; font-src data:; script-src {hashes}"


def data(values: dict[str, object]) -> Markup:
    """JSON for a script; nothing in it can end the element."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup('<script type="application/json">{}</script>').format(Markup(text.replace("<", "\\u003c")))


def _static(name: str) -> str:
    return files("clip_lens_plugin.views").joinpath("static", name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
