"""What the site shows of examples/: notebooks as pages, with the output that they keep, and a picture of the report."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

EXAMPLES = Path(__file__).parents[2] / "examples"
STATIC = ["image/png", "text/html", "text/markdown", "text/plain"]
"""Kinds of output that need no script, the one to show first."""

INDENTED = re.compile(r"\n\n((?:    .*\n|\n(?=    ))+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The site's files with a page for each notebook, a file for each of its pictures, and the report's picture."""
    files.append(File.generated(config, "assets/report.png", abs_src_path=str(EXAMPLES / "report.png")))
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        for name, content in page_of(path).items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    return files


def page_of(path: Path) -> dict[str, str | bytes]:
    """Name to content of what a notebook becomes: its page first, then its pictures."""
    exporter = MarkdownExporter()
    exporter.display_data_priority = STATIC
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["language_info"] = {"name": "python"}
    names = {"unique_key": path.stem, "output_files_dir": path.stem}
    body, resources = exporter.from_notebook_node(notebook, resources=names)
    title, _, rest = body.lstrip().partition("\n")
    note = f"*This page is the notebook* `examples/{path.name}`*, with the output that was kept in it.*"
    return {f"{path.stem}.md": as_output(f"{title}\n\n{note}\n{rest}"), **resources["outputs"]}


def as_output(body: str) -> str:
    """Printed lines, which nbconvert indents, in fences that say that they are no code; data frames without styles."""
    body = re.sub(r"<style scoped>.*?</style>\n", "", INDENTED.sub(printed, body), flags=re.DOTALL)
    return body.replace("![png](", "![Output of the cell above](")


def printed(block: re.Match[str]) -> str:
    """An indented block as a fence; nothing if it is blank, as before a picture."""
    return f"\n\n``` {{.text .printed}}\n{dedented(block[1])}\n```\n" if block[1].strip() else "\n\n"


def dedented(block: str) -> str:
    """An indented block four columns further left."""
    return "\n".join(line.removeprefix("    ") for line in block.rstrip().split("\n"))
