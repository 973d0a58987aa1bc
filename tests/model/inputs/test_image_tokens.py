"""Images that show the shape of their tokens."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from clip_lens_plugin import HookedCLIP, image_tokens
from clip_lens_plugin.images.pixel_tensors import PixelError
from tests.conftest import random_images


def test_they_have_the_shape_of_tokens_and_run_as_the_images(model: HookedCLIP) -> None:
    images = random_images(model)
    tokens = image_tokens(model, images)
    assert (tokens.shape, tokens.ndim, len(tokens), tokens.dtype) == ((3, 17), 2, 3, torch.float64)
    assert (tokens[1:2].shape, tokens.device) == ((1, 17), images.device)
    assert torch.equal(tokens[1:2].images, images[1:2])
    assert torch.equal(model(tokens), model(images))
    _, cache = model.run_with_cache(tokens[1:2], remove_batch_dim=True)
    assert torch.equal(cache["embed"], model.run_with_cache(images)[1]["embed"][1])
    with pytest.raises(AssertionError, match="batch size 3"):
        model.run_with_cache(tokens, remove_batch_dim=True)


def test_pictures_are_prepared(tmp_path) -> None:
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    tokens = image_tokens(model, tmp_path / "red.png")
    assert tokens.shape == (1, model.cfg.n_ctx)
    assert torch.equal(tokens.images, model.prepare(tmp_path / "red.png"))
    with pytest.raises(PixelError):
        image_tokens(model, torch.zeros(3, 4))
