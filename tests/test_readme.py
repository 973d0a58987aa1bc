"""Every Python snippet of the README runs, in order; its two commands are those that are run elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_snippets_run_in_order():
    snippets = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 5
    namespace: dict = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), namespace)
    assert namespace["contributions"].completeness_error() < 1e-5
    assert namespace["maps"].values.shape[:2] == (4, 3)


def test_tables_hold_what_was_measured():
    import json

    weights = Path(__file__).parent.parent / "clip_lens_plugin" / "scenes" / "weights"
    measured = json.loads((weights / "measured.json").read_text())["zero_shot_accuracy"]
    for name, share in measured.items():
        assert re.search(rf"{name}\b.*\b{share:.3f}", README.replace("\n", " ")), name
