"""What analyses take: contributions give the same numbers whole and in blocks, through the interface alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from clip_lens_plugin import HookedCLIP, mean_ablation_curve, text_span
from clip_lens_plugin.decomposition.analysed import Analysed, Origin, Provenance
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.decomposition.data_views import SomeRows, held_if_small
from clip_lens_plugin.describe.spans import TextSpanResult
from clip_lens_plugin.images.pictures import UnreadableImageError
from clip_lens_plugin.retrieval import extreme_images, nearest_images
from clip_lens_plugin.scenes import draw, sample_scenes
from clip_lens_plugin.statistics.means import ComponentSums
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.zero_shot.accuracy import accuracy_on
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier
from tests.conftest import random_images

N = 11


class InBlocks(Data):
    """A user's own data: contributions that are handed out a few rows at a time, with labels and names."""

    has_self_attention = True
    provenance = None

    def __init__(self, whole: Contributions, labels: torch.Tensor) -> None:
        self._whole, self._labels, self.constants = whole, labels, whole.constants
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self._whole)

    @property
    def readout(self) -> Any:
        return self._whole.readout

    @property
    def labels(self) -> torch.Tensor:
        return self._labels

    @property
    def classes(self) -> tuple[str, ...]:
        return ("a", "b", "c")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, range(N)))

    def blocks(self) -> Iterator[range]:
        return (range(start, min(start + 4, N)) for start in range(0, N, 4))

    def select(self, rows: Any) -> Contributions:
        self.asked.append(len(rows))
        return self._whole.select(rows)

    def kept(self, statistic: type) -> None:
        return None

    def greatest_error(self) -> float:
        return self._whole.greatest_error()


@pytest.fixture
def whole(model) -> Contributions:
    return model.decompose(random_images(model, N))


@pytest.fixture
def blocks(whole) -> InBlocks:
    return InBlocks(whole, torch.arange(N) % 3)


@pytest.fixture
def classes(whole) -> torch.Tensor:
    unit = whole.normalized().embedding
    return torch.nn.functional.normalize(unit - unit.mean(0), dim=-1)[:3]


def test_both_kinds_of_data_are_recognised(whole, blocks):
    assert isinstance(whole, Analysed)
    assert isinstance(blocks, Analysed)
    assert (whole.labels, whole.classes, whole.names, whole.provenance) == (None,) * 4

    class Half(Data):
        """Data without anything."""

    with pytest.raises(TypeError, match="abstract"):
        Half()


@pytest.mark.parametrize("ablation", ["mean", "zero"])
def test_curves_are_the_same_in_blocks(whole, blocks, classes, ablation):
    expected = mean_ablation_curve(whole, classes, blocks.labels, ablation=ablation)
    pd.testing.assert_frame_equal(mean_ablation_curve(blocks, classes, ablation=ablation), expected)
    assert max(blocks.asked) == 4


def test_sums_moments_and_texts_are_the_same_in_blocks(model, whole, blocks):
    sums = ComponentSums.of(blocks)
    assert (sums.n, sums.unit) == (N, "cosine")
    torch.testing.assert_close(sums.mlps, ComponentSums.from_contributions(whole.normalized()).mlps)
    moments = Moments.of(blocks, [1])
    torch.testing.assert_close(moments.sum_yy, Moments.from_contributions(whole.normalized(), [1]).sum_yy)
    pool, vectors = ["x", "y", "z"], torch.eye(24, dtype=torch.float64)[:3]

    def table(data: Moments | Data) -> pd.DataFrame:
        found: TextSpanResult = text_span(model, data, pool, 2, [(1, 0), (2, 3)], text_embeddings=vectors)
        return found.to_dataframe()

    pd.testing.assert_frame_equal(table(blocks), table(Moments.from_contributions(whole.normalized())))


def test_images_are_found_the_same_in_blocks(whole, blocks, classes):
    options = {"heads": [(1, 0)], "text_embeddings": classes}
    expected = extreme_images(whole, ["x", "y", "z"], 3, **options)
    found, near = extreme_images(blocks, ["x", "y", "z"], 3, **options), nearest_images(blocks, 2, 1, 0, 3)
    for table in (found, near):
        assert list(table.pop("name")) == [blocks.names[row] for row in table["row"]]
    pd.testing.assert_frame_equal(found, expected)
    pd.testing.assert_frame_equal(near, nearest_images(whole, 2, 1, 0, 3))


def test_accuracy_is_the_share_of_nearest_classes(whole, blocks, classes):
    classifier = ZeroShotClassifier(("a", "b", "c"), classes, 1.0)
    right = (whole.embedding @ classes.T).argmax(-1) == blocks.labels
    found = accuracy_on(blocks, classifier)
    assert found.top1.value == pytest.approx(right.double().mean().item())
    assert accuracy_on(whole, classifier, blocks.labels).top1 == found.top1
    with pytest.raises(ValueError, match="give labels"):
        accuracy_on(whole, classifier)
    with pytest.raises(ValueError, match="11 images need as many labels, got 3"):
        accuracy_on(whole, classifier, torch.arange(3))
    with pytest.raises(ValueError, match="another order"):
        accuracy_on(blocks, ZeroShotClassifier(("b", "a", "c"), classes, 1.0))


@pytest.mark.parametrize("rows", [[0, 3, 4, 9, 10], range(4, 8), torch.arange(N) % 2 == 1])
def test_some_rows_and_held_rows_are_those_of_the_whole(whole, blocks, classes, rows):
    some, expected = SomeRows(blocks, rows), whole.select(rows)
    assert [row for block in some.blocks() for row in block] == list(range(len(expected)))
    found = torch.cat([some.select(block).embedding for block in some.blocks()])
    torch.testing.assert_close(found, expected.embedding)
    assert some.labels.tolist() == [int(name) % 3 for name in some.names]
    curve = mean_ablation_curve(some, classes)
    pd.testing.assert_frame_equal(curve, mean_ablation_curve(expected, classes, some.labels))
    assert max(blocks.asked) <= 4
    held = held_if_small(blocks, 10**9)
    torch.testing.assert_close(held.select([2]).heads, whole.select([2]).heads)
    assert (len(list(held.blocks())), held.names) == (1, blocks.names)
    assert held_if_small(blocks, 100) is blocks


def test_what_not_all_data_have_is_none(whole, blocks):
    for data in (whole, blocks, SomeRows(blocks, [1, 4])):
        assert (data.has_rows, data.part_moments, data.neuron_layers, data.origin) == (True, (), (), None)
        assert data.positions.tolist() == list(range(len(data)))
        assert data.own_source() is None
        with pytest.raises(ValueError, match=r"^Total effects run the model: give images"):
            data.needed_source()
        made = r"holds no moments of neurons.* collect\(model, images, OUT, neurons=\[2\]\)"
        with pytest.raises(ValueError, match=f"^A {type(data).__name__} {made}"):
            data.neuron_moments(2)


def test_rows_of_a_data_set_know_it_and_their_positions(blocks):
    blocks.provenance = Provenance("a folder", "abc", np.arange(N) * 2 + 1)
    some = SomeRows(blocks, [1, 4])
    assert (some.origin.dataset, some.origin.fingerprint) == ("a folder", "abc")
    assert isinstance(some.origin, Origin)
    assert (blocks.positions[3], some.positions.tolist()) == (7, [3, 9])


def test_contributions_of_pictures_have_them_as_a_data_set():
    pictures = [draw(scene) for scene in sample_scenes(3, seed=4)]
    decomposed = HookedCLIP.from_pretrained("scenes", device="cpu").decompose(pictures)
    for data, rows in ((decomposed, [0, 1, 2]), (decomposed.normalized().select([2, 0]), [2, 0])):
        source = data.own_source()
        assert source is not None
        assert (len(source), source.classes, data.positions.tolist()) == (len(rows), None, list(range(len(rows))))
        assert [source.name(at) for at in range(len(source))] == [*data.names] == [f"image {row}" for row in rows]
        for at, row in enumerate(rows):
            np.testing.assert_array_equal(np.asarray(source.read(at).image), np.asarray(pictures[row]))
            assert source.read(at).label == -1
        assert data.needed_source().fingerprint() == source.fingerprint()
    other = decomposed.select([0, 1]).own_source()
    assert other is not None
    assert other.fingerprint() != decomposed.needed_source().fingerprint()


def test_a_picture_that_went_after_it_was_decomposed_is_named(tmp_path):
    for number, scene in enumerate(sample_scenes(2, seed=4)):
        draw(scene).save(tmp_path / f"{number}.png")
    decomposed = HookedCLIP.from_pretrained("scenes", device="cpu").decompose(tmp_path)
    texts = torch.nn.functional.normalize(decomposed.embedding, dim=-1)
    assert len(mean_ablation_curve(decomposed, texts, torch.arange(2), effect="total").to_dataframe())
    (tmp_path / "1.png").unlink()
    with pytest.raises(UnreadableImageError, match=r"1\.png cannot be used: .* Leave it out, or collect the folder"):
        mean_ablation_curve(decomposed, texts, torch.arange(2), effect="total")
