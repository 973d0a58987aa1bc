"""Maps of pictures: texts and their contrast, places on the photograph, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lens_plugin import HookedCLIP, SaliencyMap, patch_text_map, saliency_map, saliency_maps
from clip_lens_plugin.maps.crop_geometry import Placement
from clip_lens_plugin.saliency.methods import SaliencyMethod
from clip_lens_plugin.scenes import draw, sample_scenes
from clip_lens_plugin.scenes.captions import caption
from clip_lens_plugin.scenes.drawing import shape_mask

TEXTS = ["red shape", "blue shape", "green shape"]
SCENES = sample_scenes(4, 5)
PICTURES = [draw(scene) for scene in SCENES]
WIDE = PICTURES[0].resize((120, 60))


@pytest.fixture(scope="module")
def scenes() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes")


def test_ours_is_the_patch_text_map_and_its_contrast(scenes: HookedCLIP) -> None:
    found = saliency_maps(scenes, PICTURES[:3], TEXTS, against=TEXTS, batch_size=2)
    maps = patch_text_map(scenes, PICTURES[:3], TEXTS).values
    torch.testing.assert_close(torch.stack([each.values for each in found]), maps - maps.mean(1, keepdim=True))
    assert [each.name for each in found] == ["image 0", "image 1", "image 2"]
    assert {(each.texts, each.against, each.method) for each in found} == {(tuple(TEXTS), tuple(TEXTS), "patch_text")}
    alone = saliency_map(scenes, PICTURES[1], TEXTS[0])
    torch.testing.assert_close(alone.values, maps[1, :1], rtol=1e-4, atol=1e-6)
    assert alone.against == ()


def test_texts_are_given_as_embeddings_too(scenes: HookedCLIP) -> None:
    embeddings = scenes.encode_text(TEXTS)
    expected = saliency_map(scenes, PICTURES[0], TEXTS[0], "legrad", against=TEXTS)
    found = saliency_map(scenes, PICTURES[0], embeddings[0], "legrad", against=embeddings)
    assert torch.equal(found.values, expected.values)
    assert found.texts == ("text 0",)
    assert found.against == ("text 0", "text 1", "text 2")


def test_a_method_that_looks_at_no_text_needs_none(scenes: HookedCLIP) -> None:
    found = saliency_map(scenes, PICTURES[0], method="rollout")
    assert found.texts == ()
    assert found.values.shape == (1, 7, 7)
    given = saliency_map(scenes, PICTURES[0], TEXTS, "rollout", against=TEXTS)
    assert torch.equal(given.values, found.values)
    assert (given.texts, given.against) == ((), ())
    assert list(found.to_dataframe().columns) == ["text", "row", "column", "value"]
    assert "whatever the text" in repr(found)


def test_a_map_lies_where_the_patches_are_on_input_and_photograph(scenes: HookedCLIP) -> None:
    found = saliency_map(scenes, WIDE, TEXTS[:2], "patches")
    on_input = found.on_input("nearest")
    assert on_input.shape == (2, 56, 56)
    np.testing.assert_array_equal(on_input[1], np.kron(found.values[1].double().numpy(), np.ones((8, 8))))
    on_photograph = found.on_photograph()
    assert on_photograph.shape == (2, 60, 120)
    placement = Placement.of(scenes.preprocess, WIDE.size, (56, 56))
    np.testing.assert_array_equal(on_photograph[0], placement.to_photo(found.values[0], "bilinear"))
    left, _, right, _ = placement.visible
    assert np.isnan(on_photograph[0]).any(0).sum() == round(120 - (right - left))
    as_seen = saliency_map(scenes, scenes.prepare(WIDE)[0], TEXTS[:2], "patches")
    np.testing.assert_array_equal(as_seen.on_photograph("nearest"), on_input)
    np.testing.assert_array_equal(as_seen.on_photograph(picture=WIDE), on_photograph)


def test_the_table_has_a_row_for_each_text_and_patch(scenes: HookedCLIP) -> None:
    found = saliency_map(scenes, PICTURES[0], TEXTS, "v_v")
    table = found.to_dataframe()
    assert len(table) == 3 * 49
    row = table[(table.text == TEXTS[2]) & (table.row == 4) & (table.column == 1)]
    assert float(row.value.iloc[0]) == float(found.values[2, 4, 1])


def test_our_maps_lie_on_what_the_text_names(scenes: HookedCLIP) -> None:
    texts = [caption({"colour": scene.colour, "shape": scene.shape}) for scene in SCENES]
    higher = []
    for scene, picture, text in zip(SCENES, PICTURES, texts, strict=True):
        on_picture = saliency_map(scenes, picture, text, against=TEXTS).on_photograph()[0]
        mask = shape_mask(scene)
        higher.append(on_picture[mask].mean() > on_picture[~mask].mean())
    assert all(higher)


def test_a_method_of_one_s_own(scenes: HookedCLIP) -> None:
    def left(model, images, texts, against):
        return torch.arange(7.0).neg().expand(len(images), 7, 7)

    found = saliency_map(scenes, PICTURES[0], method=SaliencyMethod("left", False, left))
    assert torch.equal(found.values[0, 3], torch.arange(7.0).neg())
    assert found.title == "left"


def test_what_is_refused(scenes: HookedCLIP) -> None:
    unit = scenes.encode_text(TEXTS)
    for given, message in (
        ({"method": "grad"}, "method must be 'patch_text'"),
        ({"text": None}, "'patch_text' maps a text: give one"),
        ({"text": []}, "A saliency map takes a list of one or more texts"),
        ({"text": unit[:, :5]}, r"embeddings \[texts, \d+\].*got a tensor \[3, 5\]"),
        ({"text": 2 * unit}, "must be unit vectors"),
        ({"against": []}, "against takes a list of one or more texts"),
        ({"text": TEXTS[0], "against": TEXTS[0]}, "is the mean of those that it is contrasted with"),
    ):
        with pytest.raises(ValueError, match=message):
            saliency_map(scenes, PICTURES[0], **{"text": TEXTS, **given})
    with pytest.raises(TypeError, match="must be a HookedCLIP or a TransformerBridge, got int"):
        saliency_map(3, PICTURES[0], TEXTS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="One image is expected, got 2"):
        saliency_map(scenes, PICTURES[:2], TEXTS)
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        saliency_maps(scenes, PICTURES[:2], TEXTS, batch_size=0)
    with scenes.hooks(fwd_hooks=[("hook_embed", lambda x, hook: None)]), pytest.raises(ValueError, match="hooks on"):
        saliency_map(scenes, PICTURES[0], TEXTS)


def test_without_a_picture_it_says_so() -> None:
    found = SaliencyMap(torch.ones(1, 2, 2), ("a dog",), "patches", "Patches", (4, 4))
    with pytest.raises(ValueError, match="do not know the pictures"):
        found.on_photograph()
    np.testing.assert_array_equal(found.on_input(), np.ones((1, 4, 4)))
