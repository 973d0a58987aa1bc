"""What is collected is what the model says of each sample; what cannot be collected is refused by name."""

from __future__ import annotations

import warnings

import fsspec
import pytest
import torch
from filelock import FileLock

from clip_lens_plugin import HookedCLIP, Moments
from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.collection.errors import SkippedWarning
from clip_lens_plugin.collection.place import CollectionInUseError
from clip_lens_plugin.collection.plan import CollectionMismatchError
from clip_lens_plugin.collection.reading import UnreadableSampleError
from clip_lens_plugin.collection.running.collecting import NonFiniteActivationError
from clip_lens_plugin.datasets.source import Sample
from clip_lens_plugin.datasets.torch_dataset import TorchSource
from clip_lens_plugin.numerics.noise import TOLERANCE
from clip_lens_plugin.scenes.dataset import ScenesDataset
from tests.collection.conftest import BrokenScenes, collect_rows, files_of, preprocessed, scenes

pytestmark = pytest.mark.slow


class TensorSource(TorchSource):
    """Scenes of which one is a tensor that a picture could not become; a source of one's own may pass it on."""

    def __init__(self, n: int, bad: int, value: float) -> None:
        super().__init__(scenes(n))
        self.bad, self.value = bad, value

    def read(self, position: int) -> Sample:
        sample = super().read(position)
        return Sample(torch.full((3, 56, 56), self.value), sample.label) if position == self.bad else sample


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 1e-5), ("float16", 1e-2)])
def test_rows_are_what_decomposing_the_same_images_gives(clip, tmp_path, dtype, allowed):
    store = collect_rows(clip, scenes(21), tmp_path / "out", dtype=dtype)
    images = preprocessed(clip, range(21))
    rows, expected = store[:], clip.decompose(images)
    for name in ("heads", "mlps", "embed", "self_attention", "attn_bias", "ln_bias", "omega"):
        assert relative_error(getattr(rows, name), getattr(expected, name)) < allowed, name
    assert relative_error(rows.embedding, clip.clip.encode_image(images).detach()) < 1e-5
    assert relative_error(rows.total(), expected.total()) < allowed
    assert rows.check() is rows
    assert store.completeness_error < 1e-5
    assert (len(store), store.skipped) == (21, ())


def test_labels_names_and_classes_are_those_of_the_data_set(clip, tmp_path):
    dataset = scenes(11)
    store = collect_rows(clip, dataset, tmp_path / "out")
    assert store.labels.tolist() == [dataset[i][1] for i in range(11)]
    assert len(set(store.labels.tolist())) > 1
    assert store.names == tuple(f"{i:08d}" for i in range(11))
    assert store.classes == tuple(dataset.classes)
    assert "samples=11" in repr(store)
    unlabelled = collect_rows(clip, ScenesDataset(5, 0), tmp_path / "unlabelled")
    assert (unlabelled.labels.tolist(), unlabelled.classes) == ([-1] * 5, None)


@pytest.mark.parametrize("what", ["moments", "contributions"])
def test_moments_and_sums_are_those_of_all_images_in_cosine_units(clip, tmp_path, what):
    store = collect_rows(clip, scenes(21), tmp_path / "out", what=what)
    contributions = clip.decompose(preprocessed(clip, range(21)))
    expected = Moments.from_contributions(contributions.normalized())
    assert (store.moments.n, store.moments.unit) == (21, "cosine")
    torch.testing.assert_close(store.moments.sum_y, expected.sum_y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(store.moments.sum_yy, expected.sum_yy, rtol=1e-4, atol=1e-5)
    norms = contributions.embedding.double().norm(dim=1)
    assert (store.sums.n, store.sums.unit) == (21, "cosine")
    for name, values in {
        "coordinates": contributions.head_coordinates,
        "mlps": contributions.mlps,
        "attn_bias": contributions.attn_bias,
        "embed": contributions.embed,
        "self_attention": contributions.self_attention,
    }.items():
        restated = sum(value.double() / norm for value, norm in zip(values, norms, strict=True))
        torch.testing.assert_close(getattr(store.sums, name), restated, rtol=1e-4, atol=1e-5)


def test_moments_alone_have_no_rows_and_the_error_says_how_to_have_them(clip, tmp_path):
    store = collect_rows(clip, scenes(9), tmp_path / "out", what="moments")
    assert (len(store), store.has_rows) == (9, False)
    with pytest.raises(ValueError, match=r"what='contributions'"):
        store[:3]
    with pytest.raises(ValueError, match=r"what='contributions'"):
        store.labels  # noqa: B018
    assert not [name for name in files_of(tmp_path / "out") if "coordinates" in name]


def test_unreadable_samples_are_listed_and_have_no_row(clip, tmp_path):
    dataset = BrokenScenes(21, {5: OSError("cut short"), 16: OSError("no such file")})
    store = collect_rows(clip, dataset, tmp_path / "out", dtype="float32")
    assert [each.name for each in store.skipped] == ["00000005", "00000016"]
    assert "cut short" in store.skipped[0].reason
    assert "no such file" in store.skipped[1].reason
    kept = [i for i in range(21) if i not in (5, 16)]
    assert store.names == tuple(f"{i:08d}" for i in kept)
    assert (len(store), store.moments.n) == (19, 19)
    expected = clip.decompose(preprocessed(clip, kept)).heads
    torch.testing.assert_close(store[:].heads, expected, rtol=1e-4, atol=1e-5)


def test_a_block_of_unreadable_samples_is_left_out(clip, tmp_path):
    broken = {i: OSError("cut short") for i in range(8, 16)}
    store = collect_rows(clip, BrokenScenes(21, broken), tmp_path / "out")
    assert store.positions.tolist() == [*range(8), *range(16, 21)]
    assert len(store.skipped) == 8


def test_strict_stops_at_the_first_unreadable_sample_and_names_it(clip, tmp_path):
    dataset = BrokenScenes(21, {13: OSError("cut short")})
    with pytest.raises(UnreadableSampleError, match=r"00000013.*cut short.*without strict"):
        collect_rows(clip, dataset, tmp_path / "out", strict=True)


def test_a_data_set_of_which_nothing_can_be_read_is_refused(clip, tmp_path):
    broken = {i: OSError("cut short") for i in range(9)}
    with pytest.raises(ValueError, match=r"None of the 9 samples could be read.*cut short"):
        collect_rows(clip, BrokenScenes(9, broken), tmp_path / "out")
    with pytest.raises(ValueError, match=r"empty|no sample"):
        collect_rows(clip, scenes(0), tmp_path / "empty")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_sample_with_activations_that_are_no_numbers_is_named(clip, tmp_path, value):
    with pytest.raises(NonFiniteActivationError, match=r"00000006"):
        collect_rows(clip, TensorSource(9, 6, value), tmp_path / "out")


def test_contributions_too_large_for_float16_are_refused_with_the_way_out(tmp_path):
    large = HookedCLIP.from_pretrained("scenes", device="cpu")
    with torch.no_grad():
        large.clip.visual.proj.mul_(1e6)
    with pytest.raises(NonFiniteActivationError, match=r"00000000.*dtype='float32'"):
        collect_rows(large, scenes(5), tmp_path / "out")
    store = collect_rows(large, scenes(5), tmp_path / "wide", dtype="float32")
    expected = large.decompose(preprocessed(large, range(5))).mlps
    assert relative_error(store[:].mlps, expected) < 1e-5


def test_a_tensor_of_another_size_is_refused(clip, tmp_path):
    class Small(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, position: int) -> torch.Tensor:
            return torch.zeros(3, 8, 8)

    with pytest.raises(ValueError, match=r"\[3, 8, 8\].*\[3, 56, 56\]"):
        collect_rows(clip, Small(), tmp_path / "out")


def test_a_collection_that_is_there_is_not_written_over(clip, tmp_path):
    collect_rows(clip, scenes(9), tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(ValueError, match=r"holds a store already"):
        collect_rows(clip, scenes(9), tmp_path / "out")
    assert files_of(tmp_path / "out") == before


def test_files_of_others_are_not_touched(clip, tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"thesis.tex"):
            collect_rows(clip, scenes(9), tmp_path, resume=resume)
        assert files_of(tmp_path) == {"thesis.tex": b"chapter 1"}
    with pytest.raises(ValueError, match=r"is a file"):
        collect_rows(clip, scenes(9), tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "chapter 1"


@pytest.mark.parametrize(("broken", "said"), [(1, False), (2, True)])
def test_more_than_a_twentieth_skipped_is_said_with_the_reasons(clip, tmp_path, broken, said):
    dataset = BrokenScenes(20, {i: OSError(f"cut short {i}") for i in range(broken)})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store = collect_rows(clip, dataset, tmp_path / "out", what="moments")
    assert store.has_many_skipped == said
    messages = [str(each.message) for each in caught if issubclass(each.category, SkippedWarning)]
    assert [("2 of 20 samples" in each and "1 times cut short 1" in each) for each in messages] == [True] * said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 2}, "batch_size was 4, now 2"),
        ({"dtype": "float32"}, "dtype was float16, now float32"),
        ({"what": "moments"}, "what was contributions, now moments"),
        ({"autocast": torch.bfloat16}, "autocast was none, now bfloat16"),
        ({"dataset": ScenesDataset(9, 4, "background")}, "dataset_fingerprint was"),
        ({"dataset": ScenesDataset(10, 3, "background")}, "n_samples was 9, now 10"),
        ({"dataset": ScenesDataset(9, 3, "shape")}, "classes was"),
    ],
)
def test_resuming_with_something_else_says_what_differs(clip, tmp_path, changes, message):
    collect_rows(clip, scenes(9), tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(CollectionMismatchError, match=message):
        collect_rows(clip, **{"dataset": scenes(9), "out": tmp_path / "out", "resume": True, **changes})
    assert files_of(tmp_path / "out") == before


def test_resuming_with_another_model_says_so(clip, tmp_path):
    collect_rows(clip, scenes(9), tmp_path / "out")
    other = HookedCLIP.from_pretrained("scenes", device="cpu")
    with torch.no_grad():
        other.clip.visual.proj[0, 0] += 1
    with pytest.raises(CollectionMismatchError, match=r"image weights differs"):
        collect_rows(other, scenes(9), tmp_path / "out", resume=True)


def test_resuming_what_is_finished_opens_it_and_resuming_nothing_begins(clip, tmp_path):
    first = collect_rows(clip, scenes(9), tmp_path / "out", resume=True)
    before = files_of(tmp_path / "out")
    never_read = BrokenScenes(9, {i: KeyboardInterrupt() for i in range(9)})
    second = collect_rows(clip, never_read, tmp_path / "out", resume=True)
    assert torch.equal(first[:].embedding, second[:].embedding)
    assert files_of(tmp_path / "out") == before


def test_hooks_on_the_model_are_refused(clip, tmp_path):
    refused = pytest.raises(ValueError, match=r"blocks\.1\.attn\.hook_z.*reset_hooks")
    with clip.hooks(fwd_hooks=[("blocks.1.attn.hook_z", lambda z, hook: z * 0)]), refused:
        collect_rows(clip, scenes(9), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_another_process_writes_to_is_refused(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("clip_lens_plugin.collection.place.LOCK_SECONDS", 0.2)
    with FileLock(tmp_path / "collect.lock"), pytest.raises(CollectionInUseError, match=r"Another process"):
        collect_rows(clip, scenes(9), tmp_path)
    assert len(collect_rows(clip, scenes(9), tmp_path)) == 9


def test_bad_numbers_are_refused(clip, tmp_path):
    for bad, least in (({"batch_size": 0}, 1), ({"workers": -1}, 0)):
        with pytest.raises(ValueError, match=rf"{next(iter(bad))} must be a whole number of at least {least}"):
            collect_rows(clip, scenes(9), tmp_path / "out", **bad)


def test_an_address_holds_what_a_folder_holds(clip, tmp_path):
    collect_rows(clip, scenes(13), tmp_path / "out")
    address = f"memory://{tmp_path.name}"
    store = collect_rows(clip, scenes(13), address)
    memory = fsspec.filesystem("memory")
    found = {path.split(f"{tmp_path.name}/", 1)[1]: memory.cat_file(path) for path in memory.find(f"/{tmp_path.name}")}
    assert found == files_of(tmp_path / "out")
    reopened = ContributionStore.open(address, clip)
    assert torch.equal(reopened[3:9].heads, store[3:9].heads)


def test_an_address_of_no_known_kind_is_refused(clip):
    with pytest.raises(ValueError, match=r"nonsense"):
        collect_rows(clip, scenes(9), "nonsense://there")


def test_reading_ahead_changes_nothing(clip, tmp_path):
    dataset = BrokenScenes(21, {5: OSError("cut short")})
    collect_rows(clip, dataset, tmp_path / "alone")
    collect_rows(clip, dataset, tmp_path / "workers", workers=2)
    assert files_of(tmp_path / "workers") == files_of(tmp_path / "alone")


def test_autocast_is_complete_to_its_own_precision(clip, tmp_path):
    store = collect_rows(clip, scenes(9), tmp_path / "out", autocast=torch.bfloat16)
    exact = clip.decompose(preprocessed(clip, range(9)))
    assert 1e-5 < store.completeness_error < TOLERANCE[torch.bfloat16]
    assert store[:].completeness_error() < TOLERANCE[torch.bfloat16]
    assert 1e-4 < relative_error(store[:].embedding, exact.embedding) < 5e-2
