"""The embedded model and a few drawn scenes with labels, explored."""

from __future__ import annotations

import pytest

from clip_lens_plugin import HookedCLIP, collect
from clip_lens_plugin.app.asked import Asked, AskedPictures
from clip_lens_plugin.app.explored import Explored, Spelled
from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.report.in_reach import given_pictures
from clip_lens_plugin.scenes.dataset import ScenesDataset
from clip_lens_plugin.zero_shot.by_names import classifier_of_data

N, SEED = 24, 3


@pytest.fixture(scope="session")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Explored:
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    scenes = as_source(ScenesDataset(N, SEED, "shape"))
    rows = collect(model, scenes, tmp_path_factory.mktemp("explored"), "contributions", dtype="float32")
    spelled = Spelled("# opening", "images[{}]".format)
    return Explored(model, rows, given_pictures(rows, scenes), spelled, classifier=classifier_of_data(rows))


@pytest.fixture(scope="session")
def asked(explored: Explored) -> Asked:
    return AskedPictures(explored.model).of(explored.photograph(3))
