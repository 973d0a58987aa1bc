"""The page of commands, made by typer from the commands themselves."""

from __future__ import annotations

import html
import re
import subprocess
import sys

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

COMMANDS = "<!-- commands -->"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with what each command takes where the comment stands; any other page as it is."""
    return markdown.replace(COMMANDS, commands()) if COMMANDS in markdown else markdown


def commands() -> str:
    """Every command with its arguments and options, in Markdown, without the list of them at the top."""
    asked = [sys.executable, "-m", "typer", "clip_lens_plugin.cli", "utils", "docs", "--name", "clip-lens"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return re.sub(r"^\* `--help`.*\n", "", html.unescape(said[said.index("## ") :]), flags=re.MULTILINE)
