"""Fewer samples of a data set."""

from __future__ import annotations

import pytest

from clip_lens_plugin.datasets.part import PartOfSource
from clip_lens_plugin.datasets.torch_dataset import TorchSource
from clip_lens_plugin.scenes.dataset import ScenesDataset


def scenes(seed: int = 0) -> TorchSource:
    return TorchSource(ScenesDataset(10, seed, "colour"))


def test_samples_are_evenly_spaced_and_keep_names_and_classes():
    part = PartOfSource(scenes(), 4)
    assert [part.name(i) for i in range(len(part))] == ["00000000", "00000002", "00000005", "00000007"]
    assert part.classes == scenes().classes
    picture, label = ScenesDataset(10, 0, "colour")[5]
    sample = part.read(2)
    assert (sample.image.tobytes(), sample.label) == (picture.tobytes(), label)


def test_the_fingerprint_is_that_of_the_whole_and_of_the_limit():
    fingerprints = {PartOfSource(scenes(seed), limit).fingerprint() for seed in (0, 1) for limit in (3, 4)}
    assert len(fingerprints) == 4
    assert PartOfSource(scenes(), 3).fingerprint() in fingerprints


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="limit must be a whole number of at least 1"):
        PartOfSource(scenes(), 0)
