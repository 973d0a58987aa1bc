"""What stands at the foot of a report is what the report was made with."""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib.metadata import version

import pytest
from open_clip.transform import image_transform
from torchvision.transforms import Compose, Resize

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.report.provenance import ReportProvenance, named_apart, preprocessing_steps
from tests.conftest import random_clip, random_images


@pytest.mark.parametrize(
    ("loaded_as", "apart"),
    [
        ("ViT-B-32 vitb32.pt", ("ViT-B-32", "vitb32.pt")),
        ("ViT-B-32 my file.pt", ("ViT-B-32", "my file.pt")),
        ("ViT-B-16 laion2b_s34b_b88k", ("ViT-B-16", "laion2b_s34b_b88k")),
        ("ViT-B/32 openai tuned.pt", ("ViT-B/32", "tuned.pt (a descendant of the tag openai)")),
        ("scenes", ("scenes", None)),
        ("open_clip model", ("open_clip model", None)),
    ],
)
def test_weights_stand_apart_from_the_name(loaded_as, apart):
    assert named_apart(loaded_as) == apart


def test_it_is_of_the_model_the_data_and_now():
    model = HookedCLIP.from_open_clip(
        random_clip(), image_transform(32, is_train=False), model_name="ViT-B-32 vitb32.pt"
    )
    data = model.decompose(random_images(model, 2))
    found = ReportProvenance.of(model, data, model.verify(), dataset="two images", texts="words", n_texts=7)
    assert found.full_name == "ViT-B-32, weights from vitb32.pt"
    assert (found.image_size, found.dtype, found.device, found.n_images) == ((32, 32), "float32", "cpu", 2)
    assert found.versions["torch"] == version("torch")
    assert abs(datetime.fromisoformat(found.made) - datetime.now().astimezone()) < timedelta(minutes=5)
    assert found.architecture.startswith("3 layers of 4 heads, 48 wide, patches of 8 × 8 pixels")
    assert found.verified.holds
    assert found.command is None


def test_steps_of_preprocessing_have_no_addresses():
    def brighter(picture):
        return picture

    assert preprocessing_steps(Compose([Resize(8), brighter]))[1] == "brighter"
    assert preprocessing_steps(brighter) == ("brighter",)
    assert preprocessing_steps(None) == ()
    assert not any(" at 0x" in step for step in preprocessing_steps(image_transform(32, is_train=False)))
