"""The README's code runs; its two commands are those that are run elsewhere; its figures are those of the pages."""

from __future__ import annotations

import json
import re
import runpy

import open_clip
import pytest

from clip_lens_plugin.model.catalogue import catalogue
from clip_lens_plugin.model.loading import SCENES_FOLDER
from tests.benchmarks.forward import KEEP_MEMORY
from tests.support.pages import PAGES, README, ROOT, run, snippets

pytestmark = pytest.mark.slow


def test_snippets_run_in_order():
    namespace = run(README)
    assert namespace["contributions"].completeness_error() < 1e-5
    assert namespace["maps"].values.shape[:2] == (1, 2)


def test_it_is_one_screen_and_a_half():
    words = re.sub(r"```.*?```", "", README.read_text(), flags=re.DOTALL).split()
    assert len(words) <= 500


def test_it_has_two_commands_a_dozen_lines_of_code_and_five_of_what_is_supported():
    text = README.read_text()
    assert text.count("```bash\n") == 2
    code = [line for line in "".join(snippets(README)).splitlines() if line]
    assert len(code) <= 12
    assert text.partition("## What is supported\n")[2].partition("\n## ")[0].strip().count("\n") == 4


def test_its_links_lead_to_files():
    targets = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert len(targets) > 10
    assert all((ROOT / target).is_file() for target in targets if not target.startswith("https://"))


@pytest.mark.skipif(not open_clip.__version__.startswith("3.3."), reason="the counts are of open_clip 3.3's models")
def test_the_counts_are_the_catalogues():
    rows = catalogue()
    tags = rows["tags"].map(len)
    said = re.search(r"(\d+) of the (\d+) models .*, and (\d+) of their (\d+) tags", README.read_text())
    assert said
    counted = (rows["supported"].sum(), len(rows), tags[rows["supported"]].sum(), tags.sum())
    assert tuple(map(int, said.groups())) == counted

    written = runpy.run_path(str(ROOT / "docs" / "generate" / "models.py"))["tables"](rows)
    count, _, table = (PAGES / "supported.md").read_text().partition("<!-- tables -->\n")[2].partition(" knows, ")
    assert count.startswith("\nOf the 144 names that open_clip 3.3.")
    assert table == written.partition(" knows, ")[2]


def test_accuracy_table_is_what_was_measured():
    measured = json.loads((SCENES_FOLDER / "measured.json").read_text())["zero_shot_accuracy"]
    page = (PAGES / "embedded-model.md").read_text()
    names, _, shares = re.findall(r"^\|.*\|$", page.split("measured.json")[1], re.MULTILINE)[:3]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (names, shares)]
    assert dict(zip(*cells, strict=True)) == {name: f"{share:.3f}" for name, share in measured.items()}


def test_the_test_command_is_the_one_that_is_run_by_ci():
    assert "<!-- tests -->\n```bash\n" in README.read_text()
    assert (ROOT / ".ci" / "run").read_text().count("<!-- tests -->") == 2


def test_the_allocator_settings_are_those_of_the_timings():
    said = (PAGES / "benchmarks.md").read_text()
    assert " ".join(f"{name}={value}" for name, value in KEEP_MEMORY.items()) in said
