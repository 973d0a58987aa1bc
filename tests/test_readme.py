"""Every Python snippet of the README runs, in order; its two commands are those that are run elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import open_clip
import pytest

from clip_lens_plugin.model.catalogue import catalogue
from clip_lens_plugin.model.loading import SCENES_FOLDER
from tests.benchmarks.forward import KEEP_MEMORY

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_snippets_run_in_order():
    snippets = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 5
    namespace: dict = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), namespace)
    assert namespace["contributions"].completeness_error() < 1e-5
    assert namespace["maps"].values.shape[:2] == (4, 3)


@pytest.mark.skipif(not open_clip.__version__.startswith("3.3."), reason="the README counts open_clip 3.3's models")
def test_the_counts_are_the_catalogues():
    rows = catalogue()
    tags = rows["tags"].map(len)
    said = re.search(r"(\d+) names, (\d+) are supported, and (\d+) of the (\d+) tags", README)
    assert said
    counted = (len(rows), rows["supported"].sum(), tags[rows["supported"]].sum(), tags.sum())
    assert tuple(map(int, said.groups())) == counted


def test_accuracy_table_is_what_was_measured():
    measured = json.loads((SCENES_FOLDER / "measured.json").read_text())["zero_shot_accuracy"]
    names, _, shares = README.split("as\n[measured]")[1].split("\n\n")[1].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (names, shares)]
    assert dict(zip(*cells, strict=True)) == {name: f"{share:.3f}" for name, share in measured.items()}


def test_the_test_command_is_the_one_that_is_run_by_ci():
    assert "<!-- tests -->\n```bash\n" in README
    assert (ROOT / ".ci" / "run").read_text().count("<!-- tests -->") == 2


def test_the_allocator_settings_are_those_of_the_timings():
    assert " ".join(f"{name}={value}" for name, value in KEEP_MEMORY.items()) in README
