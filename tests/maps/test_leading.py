"""Which text leads at a patch, and one text's map minus another's: beside plain float64, and on two shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lens_plugin import HookedCLIP, PatchTextMap, patch_text_map
from clip_lens_plugin.maps.leading import leading
from clip_lens_plugin.maps.patch_text import head_text_scores
from clip_lens_plugin.scenes.attributes import sample_pairs
from clip_lens_plugin.scenes.captions import caption
from clip_lens_plugin.scenes.drawing import draw_together, shape_mask

TEXTS = ("a dog", "a cat", "<b>grass</b>")
PAIRS = 40


@pytest.fixture
def maps() -> PatchTextMap:
    values = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    return PatchTextMap(values, torch.randn(2, 3), TEXTS, cosine=torch.zeros(2, 3), heads=((1, 2),))


def test_the_leading_text_is_that_of_a_plain_restatement(maps):
    found = maps.leading()
    values = maps.values.numpy().astype(np.float64)
    leads, n_none = found.leads.numpy(), 0
    for b in range(2):
        for row in range(4):
            for column in range(5):
                heights = [values[b, t, row, column] - values[b, t].mean() for t in range(3)]
                clear = [h if h > 0.5 * values[b, t].std() else 0.0 for t, h in enumerate(heights)]
                expected = int(np.argmax(clear)) if max(clear) > 0 else -1
                assert leads[b, row, column] == expected
                assert float(found.above[b, row, column]) == pytest.approx(max(clear))
                n_none += expected < 0
    assert 0 < n_none < 40
    assert (found.texts, found.heads) == (TEXTS, ((1, 2),))
    assert sum(found.patches(0).values()) == 20
    assert found.patches(1)[-1] == int((leads[1] == -1).sum())


def test_a_constant_added_to_a_text_and_a_text_without_a_map_change_nothing(maps):
    shifted = maps.values + torch.tensor([0.0, 5.0, -3.0])[:, None, None]
    assert torch.equal(leading(shifted)[0], leading(maps.values)[0])
    values = torch.cat([torch.zeros(2, 1, 4, 5), maps.values], dim=1)
    moved = leading(values)[0]
    assert torch.equal(torch.where(moved > 0, moved - 1, moved), leading(maps.values)[0])
    assert bool((leading(torch.full((1, 2, 3, 3), 0.25))[0] == -1).all())


def test_a_contrast_of_two_texts_is_their_difference(maps):
    found = maps.contrast("<b>grass</b>", "a dog")
    assert torch.equal(found.values[:, 0], maps.values[:, 2] - maps.values[:, 0])
    assert torch.equal(found.class_token[:, 0], maps.class_token[:, 2] - maps.class_token[:, 0])
    assert (found.texts, found.cosine, found.heads) == (("<b>grass</b> rather than a dog",), None, ((1, 2),))
    for pair in (("a dog", "a dog"), ("a dog", "a cow"), ("a dog", None), (None, "a dog")):
        with pytest.raises(ValueError, match="A contrast is of two of the texts"):
            maps.contrast(*pair)


@pytest.fixture(scope="module")
def model() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu")


def test_a_contrast_is_the_map_of_the_difference_of_the_texts_themselves(model):
    picture = draw_together(sample_pairs(1, 5)[0])
    for heads in (None, 5, [(5, 3)]):
        found = head_text_scores(model, picture, TEXTS[:2]).map(heads).contrast("a dog", "a cat")
        first, second = model.encode_text(list(TEXTS[:2]))
        own = model.decompose([picture], tokens=True).normalized().towards((first - second)[None], per_token=True)[0]
        chosen = own if heads is None else own[5:] if heads == 5 else own[5:, 3:4]
        expected = chosen.double().sum((0, 1))[1:, 0].reshape(7, 7)
        torch.testing.assert_close(found.values[0, 0].double(), expected, rtol=1e-4, atol=1e-6)


def test_each_of_two_shapes_is_led_by_its_own_text_more_often_than_chance(model):
    right, chance, n, background, empty = 0, 0.0, 0, 0, 0
    for pair in sample_pairs(PAIRS, 5):
        texts = [caption({"colour": scene.colour, "shape": scene.shape}) for scene in pair]
        leads = patch_text_map(model, draw_together(pair), texts).leading().leads[0]
        side = len(shape_mask(pair[0])) // 7
        covered = [
            torch.from_numpy(shape_mask(scene)).float().reshape(7, side, 7, side).mean((1, 3)) >= 0.5 for scene in pair
        ]
        for t, own in enumerate(covered):
            right += int((leads[own] == t).sum())
            chance += float((leads == t).float().mean()) * int(own.sum())
            n += int(own.sum())
        free = ~(covered[0] | covered[1])
        background, empty = background + int(free.sum()), empty + int((leads[free] == -1).sum())
    print(f"led by its own text: {right / n:.2f}, anywhere {chance / n:.2f}; no text: {empty / background:.2f}")
    assert right / n > 3 * chance / n
    assert empty / background > 0.7


def test_the_view_and_the_table_say_the_same(model, tmp_path):
    evil = "<img src=x>"
    picture = draw_together(sample_pairs(1, 5)[0]).resize((84, 56))
    found = patch_text_map(model, picture, ["a star", evil], [(5, 3)]).leading()
    table = found.to_dataframe()
    assert list(table.columns) == ["image", "name", "row", "column", "text", "above"]
    led = table.dropna(subset=["text"])
    assert dict(led["text"].value_counts()) == {
        text: found.patches(0)[t] for t, text in enumerate(found.texts) if found.patches(0)[t]
    }
    assert set(table[table["text"].isna()]["above"]) == {0.0}
    page = found.save(tmp_path / "found.html").read_text()
    assert "Which text leads, layer 5, head 3" in page
    assert "<img src=x>" not in page
    assert f"<td>{found.patches(0)[0]}</td>" in page
    shown = [axes for axes in found.view().figure().axes if axes.images]
    painted = shown[1].images[1].get_array()
    assert painted.shape == (7, 7, 4)
    assert bool(((torch.as_tensor(np.asarray(painted))[..., 3] > 0) == (found.leads[0] >= 0)).all())
