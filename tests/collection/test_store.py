"""A store gives back the rows asked for, to the model it was collected with and to no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from open_clip.transform import image_transform
from PIL import Image

from clip_lens_plugin import HookedCLIP, Moments, ZeroShotClassifier
from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.collection.checks.description import DESCRIPTION
from clip_lens_plugin.collection.errors import CollectionDamagedError, CollectionNotFoundError, CollectionWarning
from clip_lens_plugin.collection.plan import PLAN_FILE, CollectionMismatchError
from clip_lens_plugin.statistics.means import ComponentSums
from tests.collection.conftest import BrokenScenes, collect_rows, preprocessed
from tests.collection.stores import as_of_format, everything, rewrite_description, rewrite_plan, same
from tests.conftest import random_clip

pytestmark = pytest.mark.slow

KEPT = [i for i in range(21) if i not in (5, 9)]


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A copy of the finished store, to be damaged."""
    return Path(shutil.copytree(str(finished._place), tmp_path / "copied"))


@pytest.fixture(scope="module")
def heads(clip) -> torch.Tensor:
    """Of the readable samples [19, l, h, e]."""
    return clip.decompose(preprocessed(clip, KEPT)).heads


def test_slices_and_ranges_are_rows_of_readable_samples(finished, heads):
    for rows in (slice(None), slice(3, 12), slice(-4, None), slice(1, 19, 5), slice(12, 3, -2), slice(4, 4)):
        torch.testing.assert_close(finished[rows].heads, heads[list(range(19))[rows]], rtol=1e-4, atol=1e-5)
    for rows in (range(2, 9), range(0, 19, 6), range(8, 2, -1)):
        torch.testing.assert_close(finished[rows].heads, heads[list(rows)], rtol=1e-4, atol=1e-5)


def test_positions_may_be_in_any_order_and_come_twice(finished, heads):
    for rows in ([7], [4, 3, 18, 0], [2, 2, 2], [0, 5, 11], [16, 1, 16]):
        found = finished[torch.tensor(rows)]
        torch.testing.assert_close(found.heads, heads[rows], rtol=1e-4, atol=1e-5)
        assert len(found) == len(rows)


def test_one_head_is_read_from_its_layers_chunks_and_the_embeddings_alone(clip, copied, finished, heads):
    store = ContributionStore.open(copied, clip)
    others = [path for path in copied.glob("*/c/**/*") if path.is_file()]
    for path in others:
        name, _, *index = path.relative_to(copied).parts
        if name not in ("kept", "embedding") and (name != "coordinates" or index[1] != "2"):
            path.unlink()
    norms = finished[:].embedding.norm(dim=-1, keepdim=True)
    for rows in (slice(None), slice(3, 12), [16, 1, 16], []):
        y = store.head(2, -1, rows)
        picked = range(19)[rows] if isinstance(rows, slice) else rows
        written = y @ finished[:1].readout.head_map(2, -1).double() * norms[list(picked)].double()
        torch.testing.assert_close(written.float(), heads[list(picked), 2, -1], rtol=1e-4, atol=1e-5)
    with pytest.raises(CollectionDamagedError, match="coordinates"):
        store.head(1, 0)
    with pytest.raises(CollectionDamagedError):
        store[:1]
    with pytest.raises(IndexError):
        store.head(2, 99)


@pytest.mark.parametrize("rows", [torch.tensor([0, 19]), torch.tensor([-20]), range(15, 25)])
def test_rows_that_are_not_there_are_refused(finished, rows):
    with pytest.raises(IndexError, match=r"0 to 18"):
        finished[rows]


def test_blocks_cover_all_rows_once(finished):
    blocks = [list(block) for block in finished.blocks()]
    assert blocks == [list(range(0, 7)), list(range(7, 14)), list(range(14, 19))]


def test_names_and_labels_go_with_the_rows(finished):
    assert finished.names == tuple(f"{i:08d}" for i in KEPT)
    assert finished.positions.tolist() == KEPT
    assert len(finished.labels) == len(finished) == 19


def test_a_few_rows_say_how_nearly_they_sum(finished):
    """Which a store does not keep of each; of many it is not measured for the sake of a line."""
    few = finished[10:12]
    error = few.completeness_error()
    assert 0 < error < 1e-2
    assert f"completeness_error={error:.1e}" in repr(finished[10:12])
    assert "completeness_error=not measured" in repr(finished[list(range(19)) * 2])


def test_a_folder_of_pictures_is_no_place_to_collect_into(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.png")
    with pytest.raises(CollectionNotFoundError) as caught:
        ContributionStore.open(f"{tmp_path}/")
    assert f"collect(model, '{tmp_path}/', '{tmp_path}-collected')" in str(caught.value)


def test_another_models_weights_are_named(finished, clip):
    other = HookedCLIP.from_pretrained("scenes", device="cpu")
    with torch.no_grad():
        other.clip.visual.proj[0, 0] += 1
    assert _refusal(finished, other) == ["image weights"]
    with torch.no_grad():
        clip_of_other_texts = HookedCLIP.from_pretrained("scenes", device="cpu")
        clip_of_other_texts.clip.text_projection.mul_(2)
    assert len(ContributionStore.open(str(finished._place), clip_of_other_texts)) == 19


def test_another_preprocessing_is_named(finished, clip):
    preprocess = image_transform(56, is_train=False, mean=(0.4, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert _refusal(finished, HookedCLIP.from_open_clip(clip.clip, preprocess)) == ["preprocessing"]
    assert _refusal(finished, HookedCLIP.from_open_clip(clip.clip)) == ["preprocessing"]


def test_another_dtype_is_named(finished):
    other = HookedCLIP.from_pretrained("scenes", device="cpu", dtype=torch.float64)
    assert "dtype" in _refusal(finished, other)
    assert "architecture" not in _refusal(finished, other)


def test_another_architecture_is_named(finished):
    assert "architecture" in _refusal(finished, HookedCLIP.from_open_clip(random_clip()))


def test_another_setting_is_named(finished):
    """Which the first fingerprints did not see: the weights are the same."""
    other = HookedCLIP.from_pretrained("scenes", device="cpu")
    other.clip.visual.ln_post.eps = 1e-6
    assert _refusal(finished, HookedCLIP.from_open_clip(other.clip, other.preprocess)) == ["image settings"]


def test_a_model_that_gives_something_else_is_named(copied, clip):
    """As of a version of a library that runs otherwise what is called the same."""

    def change(plan):
        plan["fingerprints"]["probe"][3] += 0.01

    rewrite_plan(copied, change)
    with pytest.raises(CollectionMismatchError, match="embedding of the probe image differs"):
        ContributionStore.open(copied, clip)


def test_other_libraries_may_describe_the_same_settings_otherwise(copied, clip):
    def change(plan):
        plan["fingerprints"]["image_settings"] = "0" * 64
        plan["fingerprints"]["libraries"]["timm"] = "0.9.0"

    rewrite_plan(copied, change)
    with pytest.warns(UserWarning, match=r"other libraries: timm 0\.9\.0 \(here .*those are the same"):
        assert len(ContributionStore.open(copied, clip)) == 19
    rewrite_plan(copied, lambda plan: plan["fingerprints"]["probe"].__setitem__(3, 9.0))
    with pytest.raises(CollectionMismatchError, match="image settings differs"):
        ContributionStore.open(copied, clip)


@pytest.mark.parametrize("version", [3, 4])
def test_a_store_of_an_earlier_version_opens_with_one_note(copied, clip, finished, version):
    as_of_format(copied, version)
    with pytest.warns(CollectionWarning, match="kept no checksums") as caught:
        store = ContributionStore.open(copied, clip)
    assert len(caught) == 1
    assert ("fingerprint of an earlier version" in str(caught[0].message)) == (version == 3)
    later = ("plan", "parts.", "class_sums.")  # An earlier version kept no sums of parts and of classes.
    found, expected = (
        {name: each for name, each in everything(whole).items() if not name.startswith(later)}
        for whole in (store, finished)
    )
    assert same(found, expected)
    other = HookedCLIP.from_pretrained("scenes", device="cpu")
    with torch.no_grad():
        other.clip.visual.proj[0, 0] += 1
    assert _refusal(store, other) == ["image weights"]
    preprocess = image_transform(56, is_train=False, mean=(0.4, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert _refusal(store, HookedCLIP.from_open_clip(clip.clip, preprocess)) == ["preprocessing"]


@pytest.mark.parametrize("version", [3, 4])
def test_a_collection_of_an_earlier_version_is_gone_on_with(clip, tmp_path, version):
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(21, {12: KeyboardInterrupt()}), tmp_path / "begun")
    as_of_format(tmp_path / "begun", version)
    again = BrokenScenes(21, {i: KeyboardInterrupt() for i in range(8)})
    with pytest.warns(CollectionWarning, match="kept no checksums") as caught:
        store = collect_rows(clip, again, tmp_path / "begun", resume=True)
    assert (len(store), len(caught)) == (21, 2)
    assert store.plan.format == version
    assert store.labels.tolist() == [BrokenScenes(21, {})[i][1] for i in range(21)]
    torch.testing.assert_close(
        store[:].heads, clip.decompose(preprocessed(clip, range(21))).heads, rtol=1e-2, atol=1e-2
    )


def test_nothing_and_what_is_unfinished_are_no_collection(clip, tmp_path):
    with pytest.raises(CollectionNotFoundError, match=r"holds no store"):
        ContributionStore.open(tmp_path / "nowhere", clip)
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(21, {12: KeyboardInterrupt()}), tmp_path / "begun")
    with pytest.raises(CollectionNotFoundError, match=r"not finished.*resume"):
        ContributionStore.open(tmp_path / "begun", clip)


@pytest.mark.parametrize("file", [PLAN_FILE, DESCRIPTION])
@pytest.mark.parametrize("text", ["no JSON", "[]", "", "[" * 100_000, '{"sha256": 5}'])
def test_a_damaged_description_is_refused(copied, clip, file, text):
    (copied / file).write_text(text)
    with pytest.raises(CollectionDamagedError, match=rf"{file}.*damaged: (it is no JSON|it holds no|its content)"):
        ContributionStore.open(copied, clip)


@pytest.mark.parametrize("text", ["no JSON", "[]", "", "[" * 100_000, '{"attributes": {"clip_lens_plan": 5}}'])
def test_a_damaged_description_of_an_earlier_version_is_refused(copied, clip, text):
    as_of_format(copied, 4)
    (copied / "zarr.json").write_text(text)
    with pytest.raises(CollectionDamagedError, match=r"zarr\.json.*damaged"):
        ContributionStore.open(copied, clip)


@pytest.mark.parametrize("lost", ["fingerprints", "shape", "block", "format"])
def test_a_plan_that_lacks_something_is_refused(copied, clip, lost):
    rewrite_plan(copied, lambda plan: plan.pop(lost))
    with pytest.raises(ValueError, match=r"Collect it again"):
        ContributionStore.open(copied, clip)


@pytest.mark.parametrize("name", ["moments", "sums", "skipped"])
@pytest.mark.parametrize("damage", ["absent", "garbage", "cut short", "another file"])
def test_damaged_files_are_named(copied, clip, name, damage):
    path = next(copied.glob(f"{name}.*"))
    whole = path.read_bytes()
    path.unlink()
    if damage != "absent":
        other = (
            b'{"a": 1}'
            if name == "skipped"
            else next(copied.glob("sums.*" if name == "moments" else "mom*")).read_bytes()
        )
        path.write_bytes({"garbage": b"\xff garbage", "cut short": whole[:1], "another file": other}[damage])
    with pytest.raises(ValueError, match=rf"{name}\.(safetensors|json).*Collect it again"):
        getattr(ContributionStore.open(copied, clip), name)


def _refusal(store: ContributionStore, model: HookedCLIP) -> list[str]:
    """The parts that the refusal names."""
    with pytest.raises(CollectionMismatchError) as caught:
        ContributionStore.open(str(store._place), model)
    message = str(caught.value).split("): ", 1)[1]
    return message.split(" differ")[0].split(" and ")


def test_lists_arrays_and_masks_are_rows_too(finished, heads):
    mask = [i % 3 == 0 for i in range(19)]
    for rows in ([3, 1], np.array([3, 1], dtype=np.int32), mask, np.array(mask), torch.tensor(mask), [], torch.ones(0)):
        picked = heads[[0, 3, 6, 9, 12, 15, 18] if len(rows) == 19 else [3, 1][: len(rows)]]
        torch.testing.assert_close(finished[rows].heads, picked, rtol=1e-4, atol=1e-5)


def test_a_single_row_and_what_is_no_row_are_refused(finished):
    for row in (3, np.int64(3), torch.tensor(3)):
        with pytest.raises(TypeError, match=r"store\[3:4\]"):
            finished[row]
    with pytest.raises(IndexError, match="18 values, there are 19 rows"):
        finished[[True] * 18]
    for rows in ("all", [0.5], [[1, 2]]):
        with pytest.raises(ValueError, match="a slice, a range, whole numbers or a mask"):
            finished[rows]


@pytest.mark.parametrize("array", ["coordinates", "kept", "label"])
def test_a_damaged_array_is_named(copied, clip, array):
    for chunk in (copied / array / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"junk")
    store = ContributionStore.open(copied, clip)
    with pytest.raises(CollectionDamagedError, match=rf"{array}/c/.* is damaged: .*Collect it again"):
        print(store[:2], store.labels)


def test_an_array_that_is_gone_is_named(copied, clip):
    shutil.rmtree(copied / "coordinates")
    with pytest.raises(CollectionDamagedError, match=r"coordinates/zarr\.json .*it is not there"):
        ContributionStore.open(copied, clip)


@pytest.mark.parametrize("lost", ["completeness_error", "files", "chunks", "block"])
def test_a_description_that_lacks_something_is_damaged(copied, clip, lost):
    rewrite_description(copied, lambda description: description.pop(lost))
    with pytest.raises(CollectionDamagedError, match=f"lacks something.*{lost}"):
        ContributionStore.open(copied, clip)


def test_plain_zarr_reads_the_arrays(finished):
    group = zarr.open_group(str(finished._place), mode="r")
    np.testing.assert_array_equal(group["embedding"][:][KEPT], finished[:].embedding.numpy())
    assert [str(each) for each in group["name"][:][KEPT]] == [*finished.names]


def test_rows_touch_only_what_they_are_of(copied, clip, finished):
    """Chunks of other rows may be damaged."""
    for array in ("coordinates", "mlps", "embedding"):
        for chunk in (copied / array / "c" / "2").rglob("*"):
            if chunk.is_file():
                chunk.write_bytes(b"junk")
    store = ContributionStore.open(copied, clip)
    assert torch.equal(store[:12].heads, finished[:12].heads)
    with pytest.raises(CollectionDamagedError, match="/c/2/"):
        store[12:]


def test_nothing_of_the_progress_is_left(finished):
    assert not Path(str(finished._place), "progress").exists()


def test_analyses_read_a_store_as_they_read_its_contributions(finished):
    whole = finished[:]
    pd.testing.assert_frame_equal(finished.shares(), whole.shares(), rtol=1e-4, atol=1e-6)
    assert (finished.kept(Moments), finished.kept(ComponentSums)) == (finished.moments, finished.sums)
    assert (finished.kept(dict), finished.constants) == (None, "separate")
    assert finished.provenance.fingerprint == finished.plan.dataset_fingerprint
    assert finished.provenance.positions.tolist() == KEPT
    embeddings = torch.nn.functional.normalize(whole.embedding[: len(finished.classes)], dim=-1)
    classifier = ZeroShotClassifier(finished.classes, embeddings, 1.0)
    found, right = finished.accuracy(classifier), (whole.embedding @ embeddings.T).argmax(-1) == finished.labels
    known = finished.labels >= 0
    assert found.n == int(known.sum())
    assert found.top1.value == pytest.approx(right[known].double().mean().item())
    other = torch.zeros(19, dtype=torch.int64)
    assert finished.accuracy(classifier, other).n == 19
