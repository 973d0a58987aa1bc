"""A fingerprint is the same for the same model and differs, in the part that says so, for another."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import torch
from open_clip.transform import image_transform

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.model.identity.fingerprints import Fingerprints, weights_digest
from clip_lens_plugin.model.identity.probes import probe_image
from tests.conftest import random_clip


def fingerprints(changes: dict | None = None, preprocess=None, **options) -> Fingerprints:
    return Fingerprints.of(HookedCLIP.from_open_clip(random_clip(changes, **options), preprocess))


def test_the_same_model_has_the_same_fingerprints():
    preprocess = image_transform(32, is_train=False)
    assert fingerprints(preprocess=preprocess) == fingerprints(preprocess=image_transform(32, is_train=False))
    assert fingerprints().differences(fingerprints()) == []


def test_each_difference_is_named():
    whole = fingerprints()
    assert whole.differences(fingerprints(seed=1)) == ["image weights"]
    assert whole.differences(fingerprints(preprocess=image_transform(32, is_train=False))) == ["preprocessing"]
    assert "dtype" in whole.differences(fingerprints(dtype=torch.float64))
    assert whole.differences(fingerprints({"quick_gelu": True})) == ["architecture"]
    assert "architecture" in whole.differences(fingerprints({"vision_cfg": {"layers": 2}}))


def test_a_single_weight_of_the_image_tower_counts_and_the_text_tower_does_not():
    clip = random_clip()
    before = Fingerprints.of(HookedCLIP.from_open_clip(clip))
    with torch.no_grad():
        clip.text_projection.add_(1)
    assert Fingerprints.of(HookedCLIP.from_open_clip(clip)) == before
    with torch.no_grad():
        clip.visual.transformer.resblocks[1].mlp.c_fc.weight[3, 5] += 1e-3
    assert before.differences(Fingerprints.of(HookedCLIP.from_open_clip(clip))) == ["image weights"]


def test_a_setting_of_the_image_tower_counts_and_of_the_text_tower_does_not():
    clip = random_clip()
    before = Fingerprints.of(HookedCLIP.from_open_clip(clip))
    clip.ln_final.eps = 0.1
    assert before.differences(Fingerprints.of(HookedCLIP.from_open_clip(clip))) == []
    clip.visual.ln_post.eps = 1e-6
    assert before.differences(Fingerprints.of(HookedCLIP.from_open_clip(clip))) == ["image settings"]


def test_a_preprocessing_is_known_by_what_it_does():
    steps = image_transform(32, is_train=False)
    renamed = fingerprints(preprocess=lambda picture: steps(picture))
    assert renamed.preprocessing == fingerprints(preprocess=steps).preprocessing
    assert fingerprints(preprocess=steps).differences(renamed) == []


def test_the_probe_is_the_models_own_embedding_compared_up_to_rounding():
    model = HookedCLIP.from_open_clip(random_clip())
    one = Fingerprints.of(model)
    with torch.no_grad():
        expected = model.clip.encode_image(probe_image(32, 32))[0]
    torch.testing.assert_close(torch.tensor(one.probe), expected)
    norm = float(expected.norm())
    for share, differences in ((2e-5, []), (1e-3, ["embedding of the probe image"])):
        moved = replace(one, probe=(one.probe[0] + share * norm, *one.probe[1:]))
        assert one.differences(moved) == differences
    model.add_hook("hook_embed", lambda x, hook: 2 * x)
    assert Fingerprints.of(model) == one


def test_json_gives_the_same_back():
    one = fingerprints()
    assert Fingerprints.from_json(json.loads(json.dumps(asdict(one)))) == one


def test_addresses_in_memory_do_not_count():
    one, other = PrintsItsAddress(), PrintsItsAddress()
    assert repr(one) != repr(other)
    assert fingerprints(preprocess=one) == fingerprints(preprocess=other)


def test_names_and_shapes_of_weights_count():
    weight = torch.arange(6.0)
    digests = [
        weights_digest({"a": weight}),
        weights_digest({"b": weight}),
        weights_digest({"a": weight.reshape(2, 3)}),
        weights_digest({"a": weight.reshape(2, 3).T}),
        weights_digest({"a": weight}, start=b"x"),
    ]
    assert len(set(digests)) == 5
    assert digests[0] == weights_digest({"a": weight.clone()})


class PrintsItsAddress:
    """As an object without a repr of its own does."""

    def __call__(self, image):
        return image
