"""How much of a head the classes explain, against plain sums over images of what heads write."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lens_plugin import HookedCLIP, ZeroShotClassifier, class_heads, eta_squared
from clip_lens_plugin.decomposition.data_views import SomeRows
from tests.conftest import random_clip, random_images

N = 20
LABELS = torch.tensor([0, 2, 2, -1, 3, 0, 0, 2, 3, 3, 3, -1, 0, 2, 0, 2, 3, 0, 0, 2])
NAMES = ("cat", "unseen", "dog", "<b>cup</b>")
KNOWN = [row for row, label in enumerate(LABELS.tolist()) if label >= 0]


@pytest.fixture(scope="module")
def model(tokenizer) -> HookedCLIP:
    """The plain tower in float64; no test changes it."""
    return HookedCLIP.from_open_clip(random_clip(dtype=torch.float64), tokenizer=tokenizer)


@pytest.fixture(scope="module")
def contributions(model):
    return model.decompose(random_images(model, N))


@pytest.fixture
def written(contributions):
    """What each head writes to each labelled image, in cosine units [n, l, h, e], and its class."""
    return contributions.normalized().heads.numpy()[KNOWN], LABELS.numpy()[KNOWN]


def plain_eta(values: np.ndarray, labels: np.ndarray) -> tuple[float, dict[int, float], float]:
    """η², the share of each class, and the variance, image by image."""
    mean = values.mean(0)
    total = sum(float(((each - mean) ** 2).sum()) for each in values)
    shares = {
        int(label): sum(float(((values[labels == label].mean(0) - mean) ** 2).sum()) for _ in values[labels == label])
        / total
        for label in np.unique(labels)
    }
    return sum(shares.values()), shares, total / len(values)


def test_eta_squared_is_between_over_total(contributions, written):
    found = class_heads(contributions, LABELS, NAMES)
    values, labels = written
    assert (found.n, found.n_unlabelled, found.empty) == (18, 2, ("unseen",))
    assert (found.classes, found.counts.tolist()) == (("cat", "dog", "<b>cup</b>"), [7, 6, 5])
    table = found.to_dataframe()
    for (layer, head), row in table.set_index(["layer", "head"]).iterrows():
        eta, shares, variance = plain_eta(values[:, layer, head], labels)
        assert row["eta_squared"] == pytest.approx(eta)
        assert row["total_variance"] == pytest.approx(variance)
        order = [NAMES[label] for label in sorted(shares, key=lambda label: -shares[label])]
        assert row["classes"] == "; ".join(order)
        best = found.classes_of(layer, head).set_index("class")
        for label, share in shares.items():
            distance = values[labels == label][:, layer, head].mean(0) - values[:, layer, head].mean(0)
            expected = best.loc[NAMES[label]]
            assert expected["share"] == pytest.approx(share)
            assert expected["length"] == pytest.approx(float(np.sqrt((distance**2).sum())))
            assert expected["chance"] == pytest.approx((1 - expected["images"] / 18) / 17)
    assert len(table) == 12
    torch.testing.assert_close(found.eta_squared, eta_squared(contributions.normalized().heads, LABELS, dim=-1))


def test_heads_of_a_class_come_by_how_far_they_move_it(contributions, written):
    found = class_heads(contributions, LABELS, NAMES)
    values, labels = written
    moved = values[labels == 2].mean(0) - values.mean(0)
    lengths = np.sqrt((moved**2).sum(-1))
    heads = found.heads_of("dog", 3)
    assert heads["length"].to_numpy() == pytest.approx(np.sort(lengths.flatten())[::-1][:3])
    layer, head = int(heads["layer"][0]), int(heads["head"][0])
    assert lengths[layer, head] == lengths.max()
    assert found.by_class().set_index("class").loc["dog", "heads"].split("; ")[0] == f"L{layer}H{head}"
    # As far as the mean of six images drawn from these 18 is from the mean of all, squared, on the average.
    everyone = values[:, layer, head]
    drawn = [np.random.default_rng(seed).permutation(18)[:6] for seed in range(2000)]
    squared = np.mean([((everyone[rows].mean(0) - everyone.mean(0)) ** 2).sum() for rows in drawn])
    assert heads["chance"][0] == pytest.approx(np.sqrt(squared), rel=0.03)


def test_chance_is_what_permuted_labels_explain(contributions, written):
    values, labels = written
    found = class_heads(contributions, LABELS, NAMES, permutations=60, seed=1)
    assert "60 permutations" in found.chance_told
    torch.testing.assert_close(found.chance, torch.full((3, 4), 2 / 17).double(), rtol=0.25, atol=0)
    plain = [plain_eta(values[:, 1, 2], np.random.default_rng(seed).permutation(labels))[0] for seed in range(60)]
    assert float(found.chance[1, 2]) == pytest.approx(np.mean(plain), rel=0.25)
    assert float(found.chance_most[1, 2]) == pytest.approx(np.max(plain), rel=0.4)
    assert bool((found.chance_most > found.chance).all())
    alone = class_heads(contributions, LABELS, NAMES, permutations=0)
    assert torch.equal(alone.chance, torch.full((3, 4), 2 / 17).double())
    assert bool(alone.chance_most.isnan().all())
    assert "over all permutations" in alone.chance_told


def test_permutations_that_do_not_fit_are_taken_in_several_passes(contributions, monkeypatch):
    at_once = class_heads(contributions, LABELS, NAMES, permutations=5)
    assert not torch.equal(class_heads(contributions, LABELS, NAMES, permutations=5, seed=1).chance, at_once.chance)
    monkeypatch.setattr("clip_lens_plugin.describe.class_heads.DRAW_BYTES", 1)
    assert torch.equal(class_heads(contributions, LABELS, NAMES, permutations=5).chance, at_once.chance)


def test_a_head_that_knows_the_class_is_found(model, contributions):
    """A head that writes one vector for each class, and no other head does."""
    moved = torch.randn(4, model.cfg.d_head, generator=torch.Generator().manual_seed(5)).double()

    def write(z: torch.Tensor, hook: object) -> torch.Tensor:
        z[:, :, 3] = moved[LABELS.clamp(min=0)][:, None]
        return z

    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", write)]):
        found = class_heads(model.decompose(random_images(model, N), batch_size=N), LABELS, NAMES)
    eta = found.eta_squared
    # In cosine units it is divided by each image's own norm, so that a little is left within classes.
    assert divmod(int(eta.nan_to_num().argmax()), 4) == (1, 3)
    assert float(eta[1, 3]) > 0.9
    assert float(eta.flatten().sort().values[-2]) < 0.5
    assert repr(found).startswith("ClassHeads(3 classes, 18 images; L1H3 1.00 (chance 0.")


def test_a_head_that_writes_the_same_for_all_has_no_share(model):
    def silence(z: torch.Tensor, hook: object) -> torch.Tensor:
        z[:, :, 1] = 0
        return z

    with model.hooks(fwd_hooks=[("blocks.2.attn.hook_z", silence)]):
        found = class_heads(model.decompose(random_images(model, N)), LABELS, NAMES)
    assert found.eta_squared.isnan().nonzero().tolist() == [[2, 1]]
    row = found.to_dataframe().set_index(["layer", "head"]).loc[(2, 1)]
    assert (row["total_variance"], row["classes"]) == (0.0, "")


def test_towards_the_classes_own_texts(model, contributions, written):
    classifier = ZeroShotClassifier.from_labels(model, NAMES)
    found = class_heads(contributions, LABELS, NAMES, classifier=classifier)
    values, labels = written
    texts = classifier.embeddings.double().numpy()
    centred = texts - texts.mean(0)
    assert found.towards is not None
    for at, label in enumerate((0, 2, 3)):
        moved = values[labels == label].mean(0) - values.mean(0)
        np.testing.assert_allclose(found.towards[at].numpy(), moved @ centred[label], atol=1e-9)
        unit = contributions.normalized().embedding.numpy()[KNOWN]
        whole = (unit[labels == label].mean(0) - unit.mean(0)) @ centred[label]
        assert float(found.towards_whole[at]) == pytest.approx(whole, abs=1e-9)
    table = found.classes_of(2, 0)
    assert table["towards"].is_monotonic_decreasing
    assert found.to_dataframe().set_index(["layer", "head"]).loc[(2, 0), "classes"].split("; ")[0] == table["class"][0]
    assert found.heads_of("cat")["towards"].is_monotonic_decreasing
    with pytest.raises(ValueError, match="another order"):
        class_heads(contributions, LABELS, NAMES[::-1], classifier=classifier)


def test_rows_of_data_are_data(contributions):
    some = SomeRows(contributions, KNOWN)
    found, expected = class_heads(some, LABELS[KNOWN], NAMES), class_heads(contributions, LABELS, NAMES)
    torch.testing.assert_close(found.eta_squared, expected.eta_squared)
    assert found.n_unlabelled == 0


def test_constants_shared_out_are_part_of_what_a_head_writes(model, written):
    shared = model.decompose(random_images(model, N), constants="shared")
    found = class_heads(shared, LABELS, NAMES, permutations=0)
    values = shared.normalized().heads.numpy()[KNOWN]
    assert float(found.eta_squared[2, 1]) == pytest.approx(plain_eta(values[:, 2, 1], written[1])[0])


def test_what_cannot_be_answered_is_refused(contributions):
    with pytest.raises(ValueError, match="no labels of their own"):
        class_heads(contributions)
    with pytest.raises(ValueError, match="20 images need as many labels, got 18"):
        class_heads(contributions, LABELS[KNOWN], NAMES)
    with pytest.raises(ValueError, match="positions of the 2 classes"):
        class_heads(contributions, LABELS, NAMES[:2])
    with pytest.raises(ValueError, match="only of 'dog'"):
        class_heads(contributions, torch.full((N,), 2), NAMES)
    with pytest.raises(ValueError, match="without a label"):
        class_heads(contributions, torch.full((N,), -1), NAMES)
    with pytest.raises(ValueError, match="permutations"):
        class_heads(contributions, LABELS, NAMES, permutations=-1)
    found = class_heads(contributions, LABELS, permutations=0)
    assert found.classes == ("class 0", "class 2", "class 3")
    with pytest.raises(ValueError, match="'cow' is none of the 3 classes"):
        found.heads_of("cow")
    with pytest.raises(ValueError, match="'class 1' has no image"):
        found.heads_of("class 1")
    with pytest.raises(IndexError, match="no layer 3, head 0"):
        found.classes_of(3, 0)


def test_images_that_are_all_the_same_are_refused(model):
    one = random_images(model, 1).expand(4, -1, -1, -1).clone()
    with pytest.raises(ValueError, match="the same for all 4 images, but for rounding, so there is no variance"):
        class_heads(model.decompose(one), [0, 1, 0, 1], ("cat", "dog"))
