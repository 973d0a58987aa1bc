"""Numbers on a page are the numbers, or within the step that is said."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from clip_lens_plugin.views.drawing.encoding import floats, picture_uri, weights


def test_floats_are_exact():
    values = torch.randn(2, 3, 5).transpose(0, 2)
    packed = floats(values)
    assert packed["shape"] == [5, 3, 2]
    read = np.frombuffer(base64.b64decode(packed["float32"]), "<f4").reshape(5, 3, 2)
    np.testing.assert_array_equal(read, values.numpy())


def test_weights_are_off_by_half_a_step_at_most():
    values = torch.rand(3, 4, 5) * torch.tensor([1e-4, 1.0, 50.0])[:, None, None]
    packed = weights(values)
    steps = np.frombuffer(base64.b64decode(packed["uint8"]), np.uint8).reshape(3, 4, 5).astype(float)
    greatest = values.amax((1, 2)).numpy()
    np.testing.assert_allclose(packed["greatest"], greatest)
    read = steps / 255 * greatest[:, None, None]
    assert (np.abs(read - values.numpy()) <= 0.501 * greatest[:, None, None] / 255).all()
    assert not np.frombuffer(base64.b64decode(weights(torch.zeros(2, 2))["uint8"]), np.uint8).any()


@pytest.mark.parametrize("values", [torch.tensor([[-0.1]]), torch.tensor([[float("nan")]]), torch.ones(3)])
def test_what_is_no_weight_is_refused(values):
    with pytest.raises(ValueError, match="from 0 up"):
        weights(values)


def test_pictures_fit_their_side():
    uri = picture_uri(Image.new("RGBA", (400, 100), "red"), 80)
    assert Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size == (80, 20)
