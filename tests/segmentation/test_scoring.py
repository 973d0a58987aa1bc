"""The scorer: planted maps, contrast, batches, work that is kept, and what is refused."""

from __future__ import annotations

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch

from clip_lens_plugin import HookedCLIP, segmentation_scores
from clip_lens_plugin.saliency.methods import METHODS
from clip_lens_plugin.segmentation import DrawnObjects
from clip_lens_plugin.segmentation.scores import image_scores
from tests.segmentation.planted import Planted, bright, broken, masked, misshapen, seen_by

BOXES = [(0, 0, 16, 24), (40, 8, 56, 24), (8, 32, 32, 56)]
IMAGES = Planted([masked(f"image {i}", text, box) for i, (text, box) in enumerate(zip("abc", BOXES, strict=True))])


@pytest.fixture(scope="module")
def model() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_LENS_CACHE", "")


def test_a_planted_map_is_scored_on_each_image_and_in_any_batches(model: HookedCLIP) -> None:
    found = segmentation_scores(model, [bright(), "random"], IMAGES, overlays=2, batch_size=2)
    rows = found.of("bright")
    assert rows["name"].tolist() == ["image 0", "image 1", "image 2"]
    assert (rows["average_precision"] > 0.97).all()  # but for the blurred edge of a patch
    assert found.best("average_precision") == ("bright",)
    planes = found.overlays
    assert [each.image for each in planes] == [0, 1]
    assert set(planes[0].maps) == {"bright", "random"}
    alone = segmentation_scores(model, [bright(), "random"], IMAGES, overlays=0, batch_size=1)
    columns = [name for name in rows if name != "seconds"]
    pd.testing.assert_frame_equal(alone.rows[columns], found.rows[columns], atol=1e-12, rtol=0)
    assert alone.overlays == ()
    assert found.n_images == 3
    assert found.title == "planted images"
    assert not found.has_other
    assert found.unseen == found.void == 0.0
    assert found.object_share == pytest.approx(np.mean([image.mask.mean() for image in IMAGES.images]))
    single = METHODS["random"].maps(model, model.prepare([IMAGES[1].picture]), torch.zeros(1, model.cfg.d_embed), None)
    wide = torch.nn.functional.interpolate(single[None].double(), scale_factor=8, mode="bilinear")[0, 0]
    by_hand = image_scores(wide.numpy(), IMAGES[1].mask)
    assert found.of("random")["average_precision"][1] == pytest.approx(by_hand.average_precision)
    assert found.of("random")["true_positive"][1] == by_hand.true_positive


def test_every_text_is_contrasted_with_the_same_others_but_not_itself(model: HookedCLIP) -> None:
    calls: list = []
    found = segmentation_scores(model, [seen_by(calls)], IMAGES, overlays=0)
    assert list(found.kinds) == ["seen, contrast", "seen"]
    assert found.kinds["seen, contrast"] == "Seen & noted, contrast"
    embeddings = model.encode_text(["a", "b", "c"])
    (n, texts, against), (_, plain, none) = calls
    assert n == 3
    assert none is None
    torch.testing.assert_close(texts, embeddings)
    torch.testing.assert_close(plain, embeddings)
    torch.testing.assert_close(against, embeddings[torch.tensor([[1, 2], [0, 2], [0, 1]])])
    calls.clear()
    segmentation_scores(
        model, [seen_by(calls)], IMAGES, overlays=0, contrast="with", against=["b", "d"], templates=["a {}", "the {}"]
    )
    own, other = (model.encode_text([f"{word} {text}" for text in "abcd"]) for word in ("a", "the"))
    mean = torch.nn.functional.normalize(own + other, dim=-1)
    by_size = {against.shape[1]: (texts, against) for _, texts, against in calls}
    torch.testing.assert_close(by_size[2][0], mean[[0, 2]])
    torch.testing.assert_close(by_size[2][1], mean[torch.tensor([[1, 3], [1, 3]])])
    torch.testing.assert_close(by_size[1][0], mean[[1]])  # the text itself is among them
    torch.testing.assert_close(by_size[1][1], mean[torch.tensor([[3]])])


def test_maps_of_parts_come_back_in_order(model: HookedCLIP) -> None:
    plain = segmentation_scores(model, [bright(True)], IMAGES, contrast="with", overlays=0).rows
    parted = segmentation_scores(model, [bright(True)], IMAGES, contrast="with", against=["b", "d"], overlays=0).rows
    assert parted["average_precision"].tolist() == plain["average_precision"].tolist()


def test_what_does_not_heed_the_text_is_at_chance_where_each_object_is_named_once(model: HookedCLIP) -> None:
    drawn = DrawnObjects(6, objects=2)
    found = segmentation_scores(model, ["patch_text", "raw_attention", "random"], drawn, overlays=0)
    assert list(found.kinds) == ["patch_text, contrast", "patch_text", "raw_attention", "random"]
    assert found.reference == "patch_text, contrast"
    for label in ("raw_attention", "random"):
        figures = found.estimates[label]
        assert figures["named_higher"].value == figures["named_higher"].low == 0.5
        assert figures["named_minus_other"].value == pytest.approx(0, abs=1e-12)
    assert found.estimates["patch_text, contrast"]["named_higher"].value > 0.8
    assert found.has_other
    table = found.to_dataframe()
    assert table["method"].tolist() == ["patch_text", "patch_text", "raw_attention", "random"]
    assert table["contrast"].tolist() == [True, False, False, False]
    assert table["named_higher"][3] == 0.5
    assert (table["images"] == 12).all()
    assert table["miou_difference"][0] == 0
    assert len(found.verdicts()) == 6


def test_images_of_one_class_are_named_and_count_for_the_rest(model: HookedCLIP) -> None:
    whole = masked("whole", "d", (0, 0, 56, 56))
    found = segmentation_scores(model, [bright()], Planted([*IMAGES.images, whole]), overlays=0)
    assert found.one_class == ("whole",)
    without = segmentation_scores(model, [bright()], IMAGES, overlays=0)
    own, base = (each.estimates["bright"] for each in (found, without))
    assert own["average_precision"].value == pytest.approx(base["average_precision"].value)
    assert own["pixel_accuracy"].value < base["pixel_accuracy"].value  # nothing is above the mean of one value


def test_a_run_goes_on_from_what_was_kept(model: HookedCLIP, tmp_path) -> None:
    path, calls = tmp_path / "scores.parquet", []
    images = Planted([*IMAGES.images, masked("late", "d", (8, 8, 24, 24))])

    class Failing(Planted):
        def __getitem__(self, position: int, /):
            if position == 2:
                raise KeyboardInterrupt
            return super().__getitem__(position)

    with pytest.raises(KeyboardInterrupt):
        segmentation_scores(model, [bright()], Failing(images.images), overlays=0, batch_size=1, resume=path)
    done: list = []
    found = segmentation_scores(
        model,
        [bright()],
        images,
        overlays=0,
        batch_size=1,
        resume=path,
        on_progress=lambda *each: done.append(each),
    )
    assert done == [(2, 4), (3, 4), (4, 4)]
    again = segmentation_scores(model, [bright()], images, overlays=0)
    columns = [name for name in again.rows if name != "seconds"]
    pd.testing.assert_frame_equal(found.rows[columns], again.rows[columns])
    assert found.to_dataframe()["miou"].equals(again.to_dataframe()["miou"])
    with pytest.raises(ValueError, match=r"another run: methods, mode differ"):
        segmentation_scores(model, [bright(), seen_by(calls)], images, "squash", overlays=0, resume=path)
    (tmp_path / "notes.parquet").write_text("mine")
    with pytest.raises(ValueError, match="no scores of an earlier run, so it is left as it is"):
        segmentation_scores(model, [bright()], images, overlays=0, resume=tmp_path / "notes.parquet")
    assert (tmp_path / "notes.parquet").read_text() == "mine"


def test_maps_of_the_papers_way_are_shown_on_what_the_model_sees(
    model: HookedCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = Planted([masked("wide", "a", (40, 0, 56, 16), (112, 56)), *IMAGES.images])
    shown = segmentation_scores(model, [bright()], wide, "paper", overlays=1).overlays[0]
    assert shown.picture.size == (56, 56)
    assert shown.mask.sum() == 8 * 16  # squashed, and so beside the bright box
    seen = np.asarray(shown.picture)[..., 0] > 200
    assert seen[:16, 12:28].all()
    assert shown.mask[:16, 20:28].all()
    monkeypatch.setattr(
        model,
        "preprocess",
        lambda picture: torch.from_numpy(np.array(picture.resize((56, 56)))).permute(2, 0, 1) / 255,
    )
    plain = segmentation_scores(model, [bright()], wide, "paper", overlays=1)
    assert plain.n_images == 4
    assert np.asarray(plain.overlays[0].picture).std() == 0


def test_mistakes_are_refused_before_or_by_name(model: HookedCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="broken on image 0, 'a': the map holds NaN"):
        segmentation_scores(model, [broken(float("nan"))], IMAGES, overlays=0)
    with pytest.raises(ValueError, match=r"misshapen gives maps of shape \(3,\)"):
        segmentation_scores(model, [misshapen()], IMAGES, overlays=0)
    for methods, message in (
        ("gradcams", "method must be 'patch_text'"),
        ([], "got none"),
        (["random", "random"], "'random' twice"),
    ):
        with pytest.raises(ValueError, match=message):
            segmentation_scores(model, methods, IMAGES)
    with pytest.raises(ValueError, match="contrast must be"):
        segmentation_scores(model, "random", IMAGES, contrast="yes")
    with pytest.raises(ValueError, match="give against="):
        segmentation_scores(model, "patch_text", Planted(IMAGES.images[:1]), contrast="with")
    with pytest.raises(ValueError, match="holds no image"):
        segmentation_scores(model, "random", Planted([]))
    with pytest.raises(ValueError, match=r"MaskFolder\('photos', names='names.csv'\).*got 'photos'"):
        segmentation_scores(model, "random", "photos")
    with pytest.raises(ValueError, match="batch_size must be"):
        segmentation_scores(model, "random", IMAGES, batch_size=0)
    with (
        model.hooks(fwd_hooks=[("blocks.2.hook_mlp_out", lambda x, hook: 0 * x)]),
        pytest.raises(ValueError, match="hooks"),
    ):
        segmentation_scores(model, "random", IMAGES, overlays=0)
