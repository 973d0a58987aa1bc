"""What ``clip-lens roles`` writes and prints, and what ends it in one line."""

from __future__ import annotations

import pandas as pd
import pytest

from clip_lens_plugin import TextPool, head_roles

pytestmark = pytest.mark.slow


def test_roles_of_a_collection(tmp_path, run, scenes_store, opened):
    texts = tmp_path / "texts.txt"
    lines = [f"colour\t{colour} shape" for colour in ("red", "green", "blue", "yellow")]
    lines += [f"shape\ta [{shape}]" for shape in ("circle", "square", "star")]
    texts.write_text("\n".join([*lines, "background\ta navy background"]))
    options = ("--texts", texts, "--nulls", 19, "--bootstraps", 4, "--picks", 2, "--seed", 5)
    result = run("roles", scenes_store, *options, "--out", tmp_path / "table.csv")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(tmp_path / "table.csv")]
    assert "of 32 heads have a role" in result.stderr
    assert "and 8 heads that vary less" in result.stderr
    asked = {"n_nulls": 19, "n_bootstraps": 4, "seed": 5}
    own = head_roles(opened.model, opened, TextPool.from_file(texts), 2, **asked).to_dataframe()
    written = pd.read_csv(tmp_path / "table.csv")
    pd.testing.assert_frame_equal(written, own, check_exact=False, rtol=1e-6)
    assert all(str(text) in result.stderr for text in own.nlargest(1, "variance_share").iloc[0]["texts"].split("; "))


def test_mistakes_are_one_line_and_exit_code_2(tmp_path, refused, scenes_store):
    assert "ask for 3 or fewer (--picks 3)" in refused("roles", scenes_store, "--picks", 4)
    (tmp_path / "texts.txt").write_text("a dog\na cat")
    assert "No text of the pool has a theme" in refused("roles", scenes_store, "--texts", tmp_path / "texts.txt")
    assert "must end in one of" in refused("roles", scenes_store, "--out", tmp_path / "a.docx")
    assert "There is no folder" in refused("roles", tmp_path / "missing")
