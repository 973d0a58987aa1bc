"""``clip-lens groups`` on drawn scenes: tables, page and file, and mistakes in one line."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.support.two_by_two import groups_table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def metadata(tmp_path_factory, scenes_store):
    path = tmp_path_factory.mktemp("groups") / "metadata.csv"
    return groups_table(path, scenes_store, "img_filename,y,place", "cold", "warm")


def test_tables_a_page_and_a_file(tmp_path, run, scenes_store, metadata):
    (tmp_path / "texts.txt").write_text("cold\tblue on navy\nwarm\tred on white\n")
    (tmp_path / "plain.txt").write_text("cold\tblue\nwarm\tred\n")
    options = ("--groups", metadata, "--classes", tmp_path / "texts.txt", "--without-cue", tmp_path / "plain.txt")
    result = run("groups", scenes_store, *options, "--out", tmp_path / "table.csv")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(tmp_path / "table.csv")]
    for message in ("heads of the greatest cue effect", "nothing removed", "texts without the cue", "Removed: "):
        assert message in result.stderr
    assert "Margin towards 'warm' less 'cold'; the cue is 'light' against 'dark'" in result.stderr
    table = pd.read_csv(tmp_path / "table.csv")
    assert {"before", "direct", "ceiling"} <= set(table["stage"])
    page = run("groups", scenes_store, *options, "--direct", "--out", tmp_path / "page.html")
    assert page.exit_code == 0, page.stderr
    assert "Heads that carry a spurious cue" in (tmp_path / "page.html").read_text()


def test_mistakes_are_one_line(tmp_path, refused, scenes_store, metadata):
    given = ("groups", scenes_store, "--groups", metadata)
    assert "There is no text file" in refused("groups", scenes_store, "--groups", tmp_path / "no.csv")
    assert "no column 'where' for the cue" in refused(*given, "--cue-column", "where")
    assert "There is no class 'hot'" in refused(*given, "--pair", "hot", "cold")
    assert "must end in one of" in refused(*given, "--out", tmp_path / "a.docx")
    assert "which --direct leaves out" in refused(*given, "--direct", "--images", tmp_path)
    assert "There is no folder" in refused("groups", tmp_path / "missing", "--groups", metadata)
    lines = metadata.read_text().splitlines()
    (tmp_path / "empty.csv").write_text("\n".join([lines[0], *(f"{x.split(',')[0]},warm,light" for x in lines[1:])]))
    assert "Two classes" in refused("groups", scenes_store, "--groups", tmp_path / "empty.csv")
