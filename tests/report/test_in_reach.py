"""The pictures of a store are found where they were, seen from here or from beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clip_lens_plugin import ContributionStore, HookedCLIP, collect
from clip_lens_plugin.report.in_reach import pictures_in_reach
from clip_lens_plugin.retrieval import nearest_images
from clip_lens_plugin.scenes import draw, sample_scenes

PICTURES = [draw(scene) for scene in sample_scenes(4, seed=21)]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ContributionStore:
    here = tmp_path_factory.mktemp("here")
    (here / "photographs").mkdir()
    for i, picture in enumerate(PICTURES):
        picture.save(here / "photographs" / f"{i}.png")
    model = HookedCLIP.from_pretrained("scenes")
    return collect(model, here / "photographs", here / "store", "contributions", progress=False)


@pytest.mark.parametrize("standing", ["beside", "inside", "elsewhere"])
def test_a_folder_beside_the_store_is_found(store, tmp_path, monkeypatch, standing):
    beside = store.folder.parent
    monkeypatch.chdir({"beside": beside, "inside": beside / "photographs", "elsewhere": tmp_path}[standing])
    found = pictures_in_reach(store)
    assert found is not None
    for row, name in enumerate(store.names):
        expected = np.asarray(PICTURES[int(Path(name).stem)])
        np.testing.assert_array_equal(np.asarray(found.photograph(row)), expected)


def test_a_folder_that_changed_or_went_is_not_taken_but_may_be_given(store, monkeypatch, tmp_path):
    beside = store.folder.parent
    monkeypatch.chdir(tmp_path)
    moved = (beside / "photographs").rename(tmp_path / "moved")
    (beside / "photographs").mkdir()
    PICTURES[0].save(beside / "photographs" / "0.png")
    assert pictures_in_reach(store) is None
    near = nearest_images(store, 0, 5, 0, 2)
    with pytest.warns(UserWarning, match=r"view\(images='FOLDER'\)"):
        grey = near.view().body
    assert near.view(images=moved).body != grey
