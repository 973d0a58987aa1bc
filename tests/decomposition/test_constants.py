"""One pair of words for what is done with constants; the earlier pair reads back as it, everywhere."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import Contributions, Moments, decompose, patch_text_map, text_span
from clip_lens_plugin.decomposition.constants import checked_constants
from tests.conftest import random_images

pytestmark = pytest.mark.slow

EARLIER = {"apart": "separate", "spread": "shared"}


def test_earlier_words_read_back_as_the_new():
    for old, new in EARLIER.items():
        assert checked_constants(old) == checked_constants(new) == new
    for wrong in ("smeared", "Shared", None, 1):
        with pytest.raises(ValueError, match="constants must be 'separate' or 'shared'"):
            checked_constants(wrong)


@pytest.mark.parametrize("old", EARLIER)
def test_every_public_face_takes_the_earlier_words(model, old):
    images, new = random_images(model, 4), EARLIER[old]
    _, cache = model.run_with_cache(images)
    contributions = model.decompose(images, constants=old)
    for each in (contributions, decompose(model, cache, constants=old), model.decompose(images).with_constants(old)):
        assert each.constants == new
        torch.testing.assert_close(each.heads, model.decompose(images, constants=new).heads)
    moments = Moments.from_contributions(contributions)
    assert moments.constants == text_span(model, moments, ["a dog"], constants=old).constants == new
    found, expected = (patch_text_map(model, images, ["a dog"], constants=word) for word in (old, new))
    torch.testing.assert_close(found.values, expected.values)


def test_one_form_turns_into_the_other(tower):
    """Nothing has to be run again, whatever was asked for first."""
    images = random_images(tower)
    separate, shared = (tower.decompose(images, tokens=True, constants=word) for word in ("separate", "shared"))
    for there, back in ((separate, shared), (shared, separate)):
        for found, expected in (
            (there.with_constants(back.constants), back),
            (there.normalized().with_constants(back.constants), back.normalized()),
            (there.select(torch.tensor([2, 0])).with_constants(back.constants), back.select(torch.tensor([2, 0]))),
        ):
            assert (found.constants, found.unit) == (expected.constants, expected.unit)
            for name in ("head_coordinates", "heads", "mlps", "embed", "attn_bias", "ln_bias"):
                torch.testing.assert_close(getattr(found, name), getattr(expected, name))
            torch.testing.assert_close(found.tokens(1, 2), expected.tokens(1, 2))
    assert shared.with_constants("shared") is shared


def test_what_the_class_token_sends_to_itself_has_a_tokens_share(model):
    contributions = model.decompose(random_images(model), tokens=True, constants="shared").normalized()
    for layer in range(3):
        expected = sum(contributions.tokens(layer, head)[:, 0] for head in range(4))
        torch.testing.assert_close(contributions.self_attention[:, layer], expected)


def test_parts_of_which_too_little_was_kept_are_refused(model):
    import dataclasses

    whole = model.decompose(random_images(model))
    parts = dataclasses.replace(whole._parts, shares=None)
    with pytest.raises(ValueError, match=r"Decompose the images with constants='shared'"):
        Contributions(whole.readout, parts, constants="shared")
    with pytest.raises(ValueError, match=r"a store keeps none"):
        Contributions(whole.readout, parts).with_constants("shared")
