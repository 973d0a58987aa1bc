"""The README and the pages of docs/: where they are, and the code on them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = ROOT / "docs" / "pages"

SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def snippets(page: Path) -> list[str]:
    """The Python on a page."""
    return SNIPPET.findall(page.read_text())


def run(page: Path) -> dict:
    """The variables after all Python on a page has run, in order."""
    namespace: dict = {}
    for snippet in snippets(page):
        exec(compile(snippet, str(page.relative_to(ROOT)), "exec"), namespace)
    return namespace
