"""What a store says of itself as data: the data set that it is of, its pictures, and which moments it holds."""

from __future__ import annotations

import numpy as np
import pytest

from clip_lens_plugin import ContributionStore, HookedCLIP, collect
from clip_lens_plugin.decomposition.analysed import Analysed
from clip_lens_plugin.scenes import draw, sample_scenes

N, BROKEN, LAYER = 4, 1, 4
PICTURES = [draw(scene) for scene in sample_scenes(N, seed=12)]


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, ContributionStore]:
    """Of one folder with a picture that cannot be read: rows, and moments alone with those of some neurons."""
    here, model = tmp_path_factory.mktemp("planned"), HookedCLIP.from_pretrained("scenes", device="cpu")
    (here / "pictures").mkdir()
    for number, picture in enumerate(PICTURES):
        picture.save(here / "pictures" / f"{number}.png")
    (here / "pictures" / f"{BROKEN}.png").write_bytes(b"broken")
    neurons = {"contributions": None, "moments": {LAYER: [0, 3]}}
    return {
        what: collect(model, here / "pictures", here / what, what, progress=False, neurons=chosen)
        for what, chosen in neurons.items()
    }


def test_both_know_the_data_set_and_what_they_hold(stores):
    rows, moments = stores["contributions"], stores["moments"]
    for store in (rows, moments):
        assert isinstance(store, Analysed)
        assert store.origin.dataset == store.plan.dataset
        assert store.origin.fingerprint == store.needed_source().fingerprint()
    assert (rows.has_rows, moments.has_rows) == (True, False)
    assert (rows.neuron_layers, moments.neuron_layers) == ((), (LAYER,))
    assert moments.neuron_moments(LAYER).neurons.tolist() == [0, 3]
    with pytest.raises(ValueError, match="holds moments of neurons of no layer, not of layer 4"):
        rows.neuron_moments(LAYER)


def test_rows_are_read_from_their_positions_in_its_data_set(stores):
    store = stores["contributions"]
    source = store.own_source()
    assert source is not None
    assert store.positions.tolist() == [0, 2, 3]
    assert tuple(source.name(position) for position in store.positions.tolist()) == store.names
    for position in store.positions.tolist():
        np.testing.assert_array_equal(np.asarray(source.read(position).image), np.asarray(PICTURES[position]))
    with pytest.raises(ValueError, match="no rows of samples"):
        _ = stores["moments"].positions


def test_a_data_set_that_changed_is_none_and_what_needs_it_says_so(stores):
    store = stores["contributions"]
    folder = store.folder.parent / "pictures"
    PICTURES[0].save(folder / "9.png")
    try:
        assert store.own_source() is None
        with pytest.raises(ValueError, match=r"is not in reach .* or not as it was"):
            store.needed_source()
        assert store.origin.dataset == store.plan.dataset
    finally:
        (folder / "9.png").unlink()
    assert store.own_source() is not None
