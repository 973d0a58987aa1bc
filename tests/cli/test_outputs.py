"""New places for what a command writes, named after what it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_lens_plugin.cli.outputs import COLLECTED, free_place


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "scenes-report"),
        ("runs/cats store/", "cats-store-report"),
        ("s3://bucket/store", "store-report"),
        ("shards/val-{000..147}.tar", "val-000..147-report"),
        ("/a/photo.v2.JPG", "photo.v2-report"),
        ("caf\udce9\x1b[31m", "caf-31m-report"),
        ("/", "here-report"),
    ],
)
def test_names_come_from_what_was_given(given, name):
    assert free_place(given, "report") == Path(name)


def test_nothing_is_written_over_but_what_was_cut_off_is_gone_on_with():
    assert free_place("photo.jpg", "heatmap", ".html") == Path("photo-heatmap.html")
    Path("photo-heatmap.html").write_text("mine")
    Path("photo-heatmap-2.html").symlink_to("nowhere")
    assert free_place("photo.jpg", "heatmap", ".html") == Path("photo-heatmap-3.html")
    Path("photos-textspan", COLLECTED).mkdir(parents=True)
    Path("photos-report").mkdir()
    assert free_place("photos", "textspan") == Path("photos-textspan")
    assert free_place("photos", "report") == Path("photos-report")
    Path("photos-textspan", "text_span.csv").write_text("")
    assert free_place("photos", "textspan") == Path("photos-textspan-2")
