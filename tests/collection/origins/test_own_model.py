"""A store opens with its own model, loaded as it was; where that is out of reach, the message is what to give."""

from __future__ import annotations

import shutil
import warnings

import open_clip
import pytest
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.collection.origins.own_model import OwnModelError
from clip_lens_plugin.collection.plan import PLAN_FILE, CollectionMismatchError
from clip_lens_plugin.model.loading import LoadingWarning
from tests.collection.conftest import collect_rows, scenes
from tests.collection.stores import rewrite_plan
from tests.conftest import random_clip
from tests.model.loading.test_by_name import CONFIG

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small_b32(monkeypatch):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", CONFIG)


@pytest.fixture
def weights(tmp_path):
    torch.save(random_clip().state_dict(), tmp_path / "w.pt")
    return tmp_path / "w.pt"


@pytest.fixture
def store(tmp_path, weights):
    """Moments of six scenes by a model from a file, in bfloat16."""
    model = HookedCLIP.from_pretrained("ViT-B-32", "openai", "cpu", torch.bfloat16, checkpoint=weights)
    return collect_rows(model, scenes(6), tmp_path / "store", what="moments")


@pytest.fixture(params=["kept", "not kept"])
def of_scenes(request, finished, tmp_path):
    """A store by the embedded model, and one whose plan does not say how that was loaded."""
    copied = shutil.copytree(str(finished._place), tmp_path / "copied")
    if request.param == "not kept":
        rewrite_plan(copied, lambda plan: plan.pop("recipe"))
    return copied


def test_the_embedded_model_is_found(of_scenes, finished):
    store = ContributionStore.open(of_scenes)
    assert store.model.cfg.model_name == "scenes"
    assert torch.equal(store[:].embedding.cpu(), finished[:].embedding.cpu())
    assert store.plan.to_bytes() == (of_scenes / PLAN_FILE).read_bytes()


def test_a_file_is_loaded_as_it_was(store, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    opened = ContributionStore.open(tmp_path / "store")
    assert opened.model.cfg.dtype is torch.bfloat16
    assert opened.model.origin.recipe == store.model.origin.recipe
    assert torch.equal(opened.moments.mean, store.moments.mean)


def test_a_file_that_is_gone_is_asked_for_by_the_very_call(store, tmp_path, weights):
    weights.rename(tmp_path / "moved.pt")
    with pytest.raises(OwnModelError) as caught:
        ContributionStore.open(str(tmp_path / "store"))
    message = str(caught.value)
    call = "HookedCLIP.from_pretrained('ViT-B-32', 'openai', checkpoint='PATH')"
    assert f"no such file {weights}" in message
    assert message.endswith(f"Where it is now: ContributionStore.open({str(tmp_path / 'store')!r}, {call}).")
    again = HookedCLIP.from_pretrained("ViT-B-32", "openai", "cpu", torch.bfloat16, checkpoint=tmp_path / "moved.pt")
    assert len(ContributionStore.open(tmp_path / "store", again)) == 6


def test_a_file_that_is_another_now_is_refused(store, tmp_path, weights):
    torch.save(random_clip(seed=1).state_dict(), weights)
    opened = ContributionStore.open(tmp_path / "store")
    with pytest.raises(CollectionMismatchError, match=r"by its name now, .*w\.pt.*: other image weights"):
        _ = opened.model


def test_the_model_is_loaded_when_it_is_first_needed(of_scenes, finished, monkeypatch):
    """And then once; what a store knows by itself needs none."""
    loaded = []
    load = HookedCLIP.from_options
    monkeypatch.setattr(HookedCLIP, "from_options", lambda *given: loaded.append(given[0]) or load(*given))
    store = ContributionStore.open(of_scenes)
    assert (len(store), store.names, store.classes) == (len(finished), finished.names, finished.classes)
    assert torch.equal(store.labels, finished.labels)
    assert torch.equal(store.moments.mean, finished.moments.mean)
    assert "samples=" in repr(store)
    assert loaded == []
    assert store.readout.model is store.model
    assert loaded == ["scenes"]


def test_what_was_noted_when_it_was_collected_is_not_noted_again(tmp_path, weights):
    """A file alone leaves its activation open."""
    with pytest.warns(LoadingWarning, match="A file does not say"):
        model = HookedCLIP.from_pretrained("ViT-B-32", device="cpu", checkpoint=weights)
    collect_rows(model, scenes(2), tmp_path / "open", what="moments")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = ContributionStore.open(tmp_path / "open").model
    assert opened.origin.notes == model.origin.notes


def test_a_folder_that_is_gone_is_said_when_the_store_is_opened(store, tmp_path):
    for name in (f"local-dir:{tmp_path / 'gone'}", f"transformers:{tmp_path / 'gone'}"):
        rewrite_plan(tmp_path / "store", lambda plan, name=name: plan.update(recipe={"name": name}))
        with pytest.raises(OwnModelError, match=r"out of reach: .*gone.*HookedCLIP\.from_pretrained"):
            ContributionStore.open(tmp_path / "store")


def test_an_earlier_version_did_not_keep_where_a_file_lay(store, tmp_path):
    rewrite_plan(tmp_path / "store", lambda plan: plan.pop("recipe"))
    with pytest.raises(OwnModelError, match=r"earlier version.*pretrained\('ViT-B-32', 'openai', checkpoint='PATH'\)"):
        ContributionStore.open(tmp_path / "store")


def test_a_model_that_was_wrapped_has_to_be_given(tmp_path):
    model = HookedCLIP.from_open_clip(random_clip(), open_clip.image_transform(32, is_train=False))
    collect_rows(model, scenes(2), tmp_path / "store", what="moments")
    assert b"recipe" not in (tmp_path / "store" / PLAN_FILE).read_bytes()
    with pytest.raises(OwnModelError, match=r"'open_clip model'.*ContributionStore\.open\('.*store', model\)"):
        ContributionStore.open(tmp_path / "store")


def test_a_record_that_is_none_is_damage(of_scenes):
    rewrite_plan(of_scenes, lambda plan: plan.update(recipe={"name": "scenes", "code": "import os"}))
    with pytest.raises(ValueError, match="not known here, 'code'"):
        ContributionStore.open(of_scenes)
