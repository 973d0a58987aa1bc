"""The strongest neurons of a store are those of the effects themselves, with the texts and images of either side."""

from __future__ import annotations

import pickle
import shutil

import pytest
import torch

from clip_lens_plugin import ContributionStore, HookedCLIP, TextPool, collect
from clip_lens_plugin.higher_order.neurons.neurons import second_order
from clip_lens_plugin.retrieval import strongest_neurons
from clip_lens_plugin.scenes import draw, sample_scenes
from clip_lens_plugin.views.results import NO_PICTURE
from clip_lens_plugin.views.results import neurons as shown

pytestmark = pytest.mark.slow

N, LAYER, CHOSEN = 24, 4, range(40)
TEXTS = ["red shape", "blue shape", "a circle", "a square", "white background", "two shapes"]
PICTURES = [draw(scene) for scene in sample_scenes(N, seed=9)]


@pytest.fixture(scope="module")
def clip() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures in a folder, of which one cannot be read, beside a store with rows and one without."""
    made = tmp_path_factory.mktemp("strongest")
    (made / "pictures").mkdir()
    for number, picture in enumerate(PICTURES):
        picture.save(made / "pictures" / f"{number:02d}.png")
    (made / "pictures" / "03.png").write_bytes(b"broken")
    return made


@pytest.fixture(scope="module")
def stores(clip, folder) -> dict[str, ContributionStore]:
    return {
        what: collect(clip, folder / "pictures", folder / what, what, progress=False, neurons={LAYER: CHOSEN})
        for what in ("contributions", "moments")
    }


@pytest.mark.parametrize("what", ["contributions", "moments"])
def test_they_are_those_of_the_effects_themselves(clip, stores, what):
    found = strongest_neurons(stores[what], LAYER, TEXTS, 5, n_texts=2)
    kept = [number for number in range(N) if number != 3]
    phi = second_order(clip, [PICTURES[number] for number in kept], LAYER, CHOSEN).normalized().effects().double()
    strength = (phi - phi.mean(0)).square().sum(-1).mean(0).sqrt()
    assert [each.neuron for each in found.neurons] == strength.argsort(descending=True)[:5].tolist()
    texts = clip.encode_text(TEXTS).double()
    texts = texts / texts.norm(dim=1, keepdim=True)
    for each in found.neurons:
        own = phi[:, each.neuron]
        _, values, axes = torch.linalg.svd(own - own.mean(0), full_matrices=False)
        assert each.strength == pytest.approx(float(strength[each.neuron]), rel=1e-3)
        assert each.share == pytest.approx(float(values[0] ** 2 / values.square().sum()), rel=1e-3)
        longest = own.norm(dim=1).argsort(descending=True)[:16]
        assert [image.name for image in each.images] == [f"{kept[row]:02d}.png" for row in longest]
        along = own[longest] @ axes[0]
        axis = axes[0] * (1 if (along > 0).sum() > 8 or ((along > 0).sum() == 8 and along.sum() > 0) else -1)
        assert [image.along for image in each.images] == pytest.approx(
            (own[longest] @ axis).tolist(), rel=1e-2, abs=1e-6
        )
        scores = texts @ axis
        scores = scores - scores.mean()
        order = scores.argsort(descending=True).tolist()
        assert [side.text for side in each.positive] == [TEXTS[t] for t in order[:2] if scores[t] > 0]
        assert [side.text for side in each.negative] == [TEXTS[t] for t in order[::-1][:2] if scores[t] < 0]
        assert each.positive[0].score == pytest.approx(float(scores.max()), rel=1e-3)
        assert each.negative[0].score == pytest.approx(float(scores.min()), rel=1e-3)


def test_pictures_are_found_by_their_position_or_given(stores, folder, tmp_path):
    found = strongest_neurons(stores["moments"], LAYER, TEXTS, 2)
    with pytest.warns(UserWarning, match="not in reach"):
        gone = shown(pickle.loads(pickle.dumps(found)))
    assert gone.body.count("data:image") == 0
    pictured = len({image.position for each in found.neurons for image in each.images[:8]})
    assert shown(found).body.count("data:image") == pictured
    shutil.copytree(folder / "pictures", tmp_path / "others")
    (tmp_path / "others" / "24.png").write_bytes((folder / "pictures" / "00.png").read_bytes())
    with pytest.raises(ValueError, match=r"is not the folder of photographs .* keeps no names of samples"):
        shown(found, tmp_path / "others")
    rows = strongest_neurons(stores["contributions"], LAYER, TEXTS, 2)
    assert shown(rows, tmp_path / "others").body == shown(rows, folder / "pictures").body == shown(rows).body
    (tmp_path / "others" / rows.neurons[0].images[0].name).unlink()
    grey = shown(rows, tmp_path / "others").body
    assert grey != shown(rows).body
    assert NO_PICTURE.size == (96, 96)


def test_a_table_has_a_row_for_each(stores):
    table = strongest_neurons(stores["moments"], LAYER, TextPool(TEXTS), 3).to_dataframe()
    assert list(table["layer"]) == [LAYER] * 3
    assert list(table["strength"]) == sorted(table["strength"], reverse=True)
    assert table["images"].str.count(r"\.png \([+−]\)").tolist() == [16] * 3


def test_what_is_no_question_is_refused(clip, stores):
    without = clip.decompose(clip.prepare(PICTURES[:2]))
    with pytest.raises(ValueError, match=r"got Contributions without either\. .*collect\(.*neurons=\[4\]\)"):
        strongest_neurons(without, LAYER, TEXTS)
    effects = second_order(clip, PICTURES[:2], LAYER, CHOSEN)
    with pytest.raises(ValueError, match="of neurons of layer 4, not of layer 3"):
        strongest_neurons(effects, 3, TEXTS)
    with pytest.raises(ValueError, match="give two images or more"):
        strongest_neurons(second_order(clip, PICTURES[:1], LAYER, CHOSEN), LAYER, TEXTS)
    with pytest.raises(ValueError, match="Neuron 40 of layer 4 is not among the 40"):
        strongest_neurons(stores["moments"], LAYER, TEXTS, neurons=[3, 40])
    with pytest.raises(ValueError, match="not of layer 3"):
        strongest_neurons(stores["moments"], 3, TEXTS)
    with pytest.raises(ValueError, match="give two or more"):
        strongest_neurons(stores["moments"], LAYER, ["a dog"])
    with pytest.raises(ValueError, match="count must be a whole number"):
        strongest_neurons(stores["moments"], LAYER, TEXTS, 0)
    with pytest.raises(ValueError, match="6 texts need as many embeddings, got 2"):
        strongest_neurons(stores["moments"], LAYER, TEXTS, text_embeddings=torch.eye(clip.cfg.d_embed)[:2])


def test_pictures_are_run_where_no_moments_were_kept(clip, stores, folder):
    expected = strongest_neurons(stores["contributions"], LAYER, TEXTS, 3, neurons=[30, 2, 17, 9])
    assert {each.neuron for each in expected.neurons} < {30, 2, 17, 9}
    assert expected.n_neurons == 4
    kept = [number for number in range(N) if number != 3]
    held = clip.decompose([PICTURES[number] for number in kept])
    effects = second_order(clip, [PICTURES[number] for number in kept], LAYER, CHOSEN, batch_size=7)
    rows = collect(clip, folder / "pictures", folder / "rows", "contributions", progress=False)
    for given in (held, effects, rows):
        found = strongest_neurons(given, LAYER, TEXTS, 3, neurons=[30, 2, 17, 9])
        assert found.n_images == len(kept)
        for one, other in zip(found.neurons, expected.neurons, strict=True):
            assert (one.neuron, one.positive[0].text) == (other.neuron, other.positive[0].text)
            assert one.strength == pytest.approx(other.strength, rel=1e-3)
            named = [f"{kept[image.position]:02d}.png" if given is not rows else image.name for image in one.images]
            assert named[:5] == [image.name for image in other.images[:5]]
    assert found.data is rows
    drawn = [shown(strongest_neurons(given, LAYER, TEXTS, 2)).body.count("data:image") for given in (held, rows)]
    assert min(drawn) > 0
