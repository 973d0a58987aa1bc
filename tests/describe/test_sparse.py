"""Sparse codes in words: centring, what is kept of it, and what is refused; the minimum is tested in numerics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

from clip_lens_plugin import HookedCLIP, TextPool, sparse_text
from clip_lens_plugin.scenes import draw, sample_scenes
from tests.conftest import random_clip

WIDTH = 24


@pytest.fixture(scope="module")
def tower():
    return HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))


@pytest.fixture(scope="module")
def words():
    """A vocabulary of 200 texts and its embeddings, in a cone as those of CLIP are."""
    g = torch.Generator().manual_seed(1)
    rows = torch.randn(200, WIDTH, generator=g).double() + 3 * torch.randn(WIDTH, generator=g).double()
    return TextPool([f"word {i}" for i in range(200)]), unit(rows)


def unit(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def centred(x: torch.Tensor) -> torch.Tensor:
    return unit(x - x.mean(0))


def images(n: int = 6) -> torch.Tensor:
    g = torch.Generator().manual_seed(2)
    return 5 * torch.rand(n, 1, generator=g).double() * (torch.randn(n, WIDTH, generator=g).double() + 1)


def of_sklearn(vectors: torch.Tensor, atoms: torch.Tensor, penalty: float, positive: bool) -> torch.Tensor:
    model = Lasso(alpha=penalty / WIDTH, positive=positive, fit_intercept=False, tol=1e-13, max_iter=10**6)
    return torch.from_numpy(np.stack([model.fit(atoms.T.numpy(), each).coef_ for each in vectors.numpy()]))


def test_images_are_centred_by_their_mean_and_texts_by_theirs(tower, words) -> None:
    pool, embeddings = words
    mean = unit(images(40)).mean(0)
    found = sparse_text(tower, images(), pool, 0.2, mean=mean, text_embeddings=embeddings)
    vectors = unit(unit(images()) - mean)
    expected = of_sklearn(vectors, centred(embeddings), 0.2, positive=True)
    assert torch.allclose(found.codes.to_dense(), expected, atol=1e-7)
    assert found.counts.tolist() == (expected.abs() > 1e-9).sum(1).tolist()
    near = expected @ centred(embeddings)
    assert torch.allclose(found.cosine, torch.cosine_similarity(near, vectors), atol=1e-7)
    assert torch.allclose(found.lengths, (unit(images()) - mean).norm(dim=1))
    assert torch.equal(found.text_mean, embeddings.mean(0))
    assert torch.equal(found.image_mean, mean)
    assert float(found.kkt.max()) < 1e-9
    assert bool((found.weights.diff(dim=1) <= 0).all())


def test_directions_keep_their_own_mean_and_have_words_of_both_signs(tower, words) -> None:
    pool, embeddings = words
    directions = 100 * images() - 300
    found = sparse_text(tower, directions, pool, 0.2, directions=True, text_embeddings=embeddings)
    expected = of_sklearn(unit(directions), centred(embeddings), 0.2, positive=False)
    assert torch.allclose(found.codes.to_dense(), expected, atol=1e-7)
    assert bool((found.weights < 0).any())
    assert bool((found.weights > 0).any())
    assert torch.allclose(found.lengths, directions.norm(dim=1))
    assert found.image_mean is None
    against = sparse_text(tower, -directions, pool, 0.2, directions=True, text_embeddings=embeddings)
    assert torch.allclose(against.codes.to_dense(), -expected, atol=1e-7)


def test_a_number_of_words_and_the_table(tower, words) -> None:
    pool, embeddings = words
    options = {"mean": torch.zeros(WIDTH), "text_embeddings": embeddings, "names": ["=1+1", "b"]}
    found = sparse_text(tower, images(2), pool, k=3, **options)
    assert (found.counts.tolist(), found.penalty, found.k) == ([3, 3], 0.0, 3)
    table = found.to_dataframe()
    assert list(table.columns) == ["row", "name", "rank", "text", "weight"]
    assert list(table["rank"]) == [1, 2, 3, 1, 2, 3]
    assert list(zip(table["text"][3:], table["weight"][3:], strict=True)) == found.words(1) == found.words(-1)
    assert "3 words each; centred by a mean that was given" in repr(found)
    nothing = sparse_text(tower, images(2), pool, 1.5, **options)
    assert nothing.codes.to_dense().abs().sum() == 0
    assert nothing.cosine.isnan().all()
    assert "no word is worth its penalty" in repr(nothing)
    assert len(nothing.to_dataframe()) == 0


def test_what_a_scene_shows_is_said_of_it() -> None:
    """Of drawn scenes it is known: each image's first word is its background."""
    scenes = HookedCLIP.from_pretrained("scenes", device="cpu")
    drawn = sample_scenes(60, seed=1)
    data = scenes.decompose([draw(scene) for scene in drawn])
    pool = TextPool([text for text in TextPool.scenes().texts if text.endswith("background") and text[:2] == "a "])
    found = sparse_text(scenes, data, pool, 0.1)
    assert found.names == data.names
    right = sum(found.words(row)[0][0] == f"a {scene.background} background" for row, scene in enumerate(drawn))
    assert right >= 55
    expected = torch.nn.functional.normalize(data.embedding.double(), dim=1).mean(0)
    assert torch.allclose(found.image_mean, expected, atol=1e-6)
    assert found.mean_of == "the mean of these 60 images"
    alone = sparse_text(scenes, data.embedding[:3], pool, 0.1, mean=data)
    assert torch.allclose(alone.codes.to_dense(), found.codes.to_dense()[:3], atol=1e-6)


REFUSED = {
    "no mean": ({}, r"embeddings alone do not say it: give mean="),
    "mean of another width": ({"mean": torch.ones(5)}, r"mean must be of shape \[24\].*\[5\]"),
    "mean that is NaN": ({"mean": torch.full((WIDTH,), torch.nan)}, "mean must be finite"),
    "mean of directions": ({"mean": torch.zeros(WIDTH), "directions": True}, "Directions are not centred"),
    "penalty of 0": ({"penalty": 0.0, "directions": True}, "penalty must be a number greater than 0"),
    "penalty that is no number": ({"penalty": float("nan"), "directions": True}, "penalty must be a number"),
    "both": ({"penalty": 0.1, "k": 2, "directions": True}, "penalty or a number of words, k, not both"),
    "no word": ({"k": 0, "directions": True}, "k must be a whole number of at least 1"),
    "names": ({"names": ["a"], "directions": True}, "6 vectors need as many names, got 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_asked_wrongly_is_refused(tower, words, name) -> None:
    options, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        sparse_text(tower, images(), words[0], text_embeddings=words[1], **options)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (torch.ones(2, 5), r"\[vectors, 24\], got \[2, 5\]"),
        (torch.ones(WIDTH), r"got \[24\].*vector\[None\]"),
        (torch.ones(2, WIDTH, dtype=torch.long), "int64"),
        (torch.ones(0, WIDTH), "No vector"),
        (torch.tensor([[1.0], [torch.inf]]).expand(2, WIDTH), r"positions \[1\] hold NaN"),
        (torch.tensor([[1.0], [0.0]]).expand(2, WIDTH), "'direction 1' is zero"),
        ([1, 2], "got a list"),
    ],
)
def test_vectors_that_are_none_are_refused(tower, words, vectors, message) -> None:
    with pytest.raises(ValueError, match=message):
        sparse_text(tower, vectors, words[0], directions=True, text_embeddings=words[1])


def test_a_mean_that_leaves_nothing_is_refused(tower, words) -> None:
    pool, embeddings = words
    one = images(1)
    with pytest.raises(ValueError, match="'image 0' is the mean"):
        sparse_text(tower, one, pool, mean=unit(one)[0], text_embeddings=embeddings)
    with pytest.raises(ValueError, match="no longer than 1, got a length of 3"):
        sparse_text(tower, one, pool, mean=3 * unit(one)[0], text_embeddings=embeddings)
    with pytest.raises(ValueError, match="takes two texts, got 1"):
        sparse_text(tower, one, ["alone"], directions=True, text_embeddings=embeddings[:1])
    same = embeddings[:1].expand(2, -1)
    with pytest.raises(ValueError, match=r"'word 0' \(and 1 more\) is the mean of the vocabulary"):
        sparse_text(tower, one, TextPool(pool.texts[:2]), directions=True, text_embeddings=same)
