"""One run of every public function, to be repeated on the fake GPU and compared with that of the CPU.

A case is written as a user would write it: nothing says a device but where the model and the inputs were put before.
Here are those of analyses, of stores and of pages.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import clip_lens_plugin as lens
from clip_lens_plugin import ablation, retrieval, views
from clip_lens_plugin.maps import patch_text, scoring
from clip_lens_plugin.report.analyses import Question, analyse
from clip_lens_plugin.scenes.dataset import ScenesDataset
from clip_lens_plugin.statistics.means import ComponentSums
from tests.cuda.given import TEXTS, Given, N, case


@case
def moments(given: Given) -> Any:
    half = given.parts.select(torch.arange(5)), given.parts.select(torch.arange(5, N))
    both = lens.Moments.from_contributions(half[0]) + lens.Moments.from_contributions(half[1])
    sums = ComponentSums.from_contributions(half[0]) + ComponentSums.from_contributions(half[1])
    both.save(given.folder / "moments.safetensors")
    kept = lens.Moments.load(given.folder / "moments.safetensors")
    mixed = kept + both, both + kept, ComponentSums.from_tensors(sums.to_tensors()) + sums
    again = lens.Moments.from_tensors(both.to_tensors())
    late = lens.Moments.from_contributions(half[0], (2,)).absorb(half[1])
    late.refuse_left_out(2)
    in_place = kept.to(half[0].embedding.device).absorb_sums(both)
    of_a_head = late.covariance_of(2, 1), late.second_moment(-1, 0), in_place.covariance_of(0, 1)
    found = both.mean, both.covariance, again.covariance, mixed[0].mean, mixed[1].mean
    whole = lens.Moments.of(given.parts).covariance, ComponentSums.of(given.parts).mean().mlps
    return found, of_a_head, mixed[2].mlps, sums.mean().mlps, whole


@case
def describing(given: Given) -> Any:
    model, kept = given.model, lens.Moments.from_contributions(given.parts)
    own = lens.text_span(model, kept, given.pool, 4, text_embeddings=given.pool.embed(model))
    loaded = lens.Moments.from_tensors(kept.to_tensors())
    listed = lens.text_span(model, loaded, TEXTS, 2, heads=[(0, 1), (-1, 2)])
    return own.to_dataframe(), listed.to_dataframe(), own.heads, own[2, 1].directions.abs()


@case
def sparse_codes(given: Given) -> Any:
    model, vectors = given.model, given.pool.embed(given.model)
    own = lens.sparse_text(model, given.parts.embedding[:2], given.pool, k=2, mean=given.parts, text_embeddings=vectors)
    axes = lens.head_singular_texts(model, given.pool, [(0, 1)], 1, 0.1, text_embeddings=vectors)
    options = {"heads": [(0, 1)], "text_embeddings": vectors}
    picked = lens.somp(model, given.parts, given.pool, 2, **options)
    published = lens.somp(model, given.parts, given.pool, 1, **options, centred=False, project=False)
    assert isinstance(own, lens.SparseText)
    tables = [each.to_dataframe() for each in (own, picked, published)]
    return tables, own.codes.to_dense(), own.cosine, axes.singular_values


@case
def roles(given: Given) -> Any:
    model, vectors = given.model, given.pool.embed(given.model)
    pool = lens.TextPool(given.pool.texts, [f"theme {at % 2}" for at in range(len(given.pool))])
    parts = [lens.Moments.from_contributions(given.parts.select([row])) for row in range(N)]
    asked = {"n": 2, "heads": [(2, 3)], "text_embeddings": vectors, "n_nulls": 1, "n_bootstraps": 1}
    with patch("clip_lens_plugin.roles.finding.FEWEST_NULLS", 1):  # A fake GPU is slow.
        found = lens.head_roles(model, parts, pool, **asked)
        grown = lens.role_growth(model, parts, pool, [4], **{**asked, "n_bootstraps": 0}, repeats=1)
    assert isinstance(found, lens.HeadRoles)
    assert isinstance(grown, lens.RoleGrowth)
    drawn = views.roles_view(found), views.role_growth_view(grown)
    return found.to_dataframe(), grown.to_dataframe(), [each.title for each in drawn]


@case
def pools(given: Given) -> Any:
    file = given.folder / "pool.txt"
    file.write_text("\n".join(TEXTS))
    shipped = (lens.TextPool.general, lens.TextPool.common_words, lens.TextPool.scenes, lens.TextPool.imagenet_classes)
    return lens.TextPool.from_file(file).embed(given.model), [len(each()) for each in shipped], len(given.pool)


@case
def classifying(given: Given) -> Any:
    classes, embedding, labels = given.classes, given.parts.embedding, given.labels
    classes.attach(given.model)
    found = [classes.cosines(embedding), classes.logits(embedding), classes.ranks(embedding, labels), len(classes)]
    accuracy = classes.accuracy(embedding, labels)
    rows = classes.accuracy(embedding.cpu(), labels.cpu())
    classes.refuse_other_classes(classes.names, "the given")
    return found, accuracy.per_class, accuracy.top1.value, rows.top5.value


@case
def imagenet(given: Given) -> Any:
    assert callable(lens.ZeroShotClassifier.from_imagenet)  # 80,000 texts; it shares all that from_labels does.
    return given.classes.embeddings


@case
def curves(given: Given) -> Any:
    parts, classes, labels = given.parts, given.classes, given.labels
    found = [lens.mean_ablation_curve(parts, classes, labels, ablation=each) for each in ("mean", "zero", "resample")]
    sums = ComponentSums.from_contributions(given.model.decompose(given.others).normalized())
    found.append(lens.mean_ablation_curve(parts, classes.embeddings, labels, sums))
    found.append(lens.mean_ablation_curve(parts, classes, labels, ComponentSums.from_tensors(sums.to_tensors())))
    return found


@case
def curves_of_runs(given: Given) -> Any:
    found = []
    for each in ("mean", "zero", "resample"):
        settings: Any = {"ablation": each, "effect": "total", "images": given.images, "batch_size": 5}
        found.append(ablation.mean_ablation_curve(given.parts, given.classes, given.labels, **settings))
    return found


@case
def component_sets(given: Given) -> Any:
    model, sets = given.model, ablation.Components
    own = sets.of_heads(model, [(0, 1), (2, 3)]) | sets.of_mlps(model, [1])
    chosen = [own, sets.of_attention(model, [0, 1]), *ablation.paper_components(model, given.by_class_token)]
    chosen += [sets.of_self_attention(model, [2])] if given.by_class_token else []
    chosen = [each for each in chosen if each.n_layers]
    return lens.mean_ablation_curve(given.parts, given.classes, given.labels, components=chosen)


@case
def ablating(given: Given) -> Any:
    model, images, name = given.model, given.images, "blocks.1.attn.hook_z"
    means = ablation.activation_means(model, given.others, [name, "blocks.0.hook_mlp_out"], batch_size=4)
    running = ablation.ActivationMeans(model, name)
    running.add(given.others)
    donors = model.run_with_cache(given.others, names_filter=name)[1]
    kept = {each: mean.cpu() for each, mean in means.items()}
    hooks = [ablation.mean_ablation(means, heads=[0, 2]), ablation.mean_ablation(kept, positions=[0, 1])]
    hooks += [ablation.zero_ablation([1], [0]), ablation.resample_ablation(donors)]
    hooks += [ablation.resample_ablation(torch.arange(N).flip(0), heads=[3])]
    edited = [model.run_with_hooks(images, fwd_hooks=[(name, hook)]) for hook in hooks]
    return edited, running.means(), running.n


@case
def ablating_the_class_token(given: Given) -> Any:
    if not given.by_class_token:
        return None
    model, images = given.model, given.images
    messages = ablation.class_self_attention_messages(model, given.others, [0, 2], batch_size=4)
    means = {layer: message.mean(0).cpu() for layer, message in messages.items()}
    found = [messages]
    for replacement in (None, messages, means):
        hooks = ablation.class_self_attention_hooks(model, [0, 2], replacement)
        found.append(model.run_with_hooks(images, fwd_hooks=hooks))
    return found


@case
def completeness_of_texts(given: Given) -> Any:
    model, kept = given.model, lens.Moments.from_contributions(given.parts)
    random, vectors = ablation.random_directions(model, 5)
    control = lens.text_span(model, kept, random, 3, text_embeddings=vectors)
    spans = {"own": given.spans, "random": control}
    return vectors, ablation.text_span_completeness(given.parts, given.classes, spans, given.labels, n_texts=[1, 3])


@case
def retrieving(given: Given) -> Any:
    parts, one = given.parts, given.model.decompose(given.others[:1])
    found = [retrieval.extreme_images(parts, given.spans, 2), retrieval.extreme_images(parts, TEXTS[:2], 3, n_texts=1)]
    embeddings = given.model.encode_text(TEXTS[:2]).cpu()
    found.append(retrieval.extreme_images(parts, TEXTS[:2], 2, heads=[(0, 1)], text_embeddings=embeddings))
    for query in (one, 3):
        found.append(retrieval.nearest_images(parts, query, 2, 1, 4))
    found.append(retrieval.nearest_images(parts, 0, 0, 0, 4, remove_mean=False))
    found.append(retrieval.nearest_images(parts, 0, heads=[(2, 1), (0, 0)]))
    found.append(retrieval.nearest_to_text(parts, TEXTS[0], heads=[(2, 1), (0, 0)], text_embeddings=embeddings[:1]))
    return found


@case
def mapping(given: Given) -> Any:
    model, images = given.model, given.images
    every = lens.patch_text_map(model, images, TEXTS[:2], batch_size=4)
    some = patch_text.patch_text_map(model, images, TEXTS[:1], heads=[(0, 1), (-1, 2)])
    layer = lens.patch_text_map(model, images, TEXTS[:1], heads=2)
    assert isinstance(every, lens.PatchTextMap)
    scores = patch_text.head_text_scores(model, images[0], TEXTS[:3])
    maps = [scores.map(), scores.map([(0, 1), (1, 1)]), every.contrast(), every.contrast(*TEXTS[:2])]
    towards = scoring.token_scores(model, images, model.encode_text(TEXTS[:2]))
    extremes, marks = patch_text.extreme_descriptions(model, images[1], given.spans[2, 1])
    found = [every.values, some.values, layer.class_token, towards, extremes.values, scores.scores, scores.cosine]
    kinds = isinstance(scores, patch_text.HeadTextScores), isinstance(every, patch_text.PatchTextMap)
    led = every.leading()
    found += [led.leads, led.above]
    return found, [(each.values, each.scores, each.class_token) for each in maps], marks, every.grid_size, kinds


@case
def explaining(given: Given) -> Any:
    model, image = given.model, given.images[2]
    found = [lens.explain(model, image, *TEXTS[:2], means=given.parts, random_sets=1)]
    found.append(lens.explain(model, image, given.classes, means=given.others, texts=given.pool, random_sets=0))
    assert all(isinstance(each, lens.Decision) for each in found)
    return [(each.gap, each.to_dataframe(), each.removed[0].total, each.map().values) for each in found]


@case
def patching(given: Given) -> Any:
    model, pairs = given.model, (given.images[:1], given.others[:1])
    direction = given.classes.embeddings[0]

    def metric(embedding: Tensor) -> Tensor:
        return embedding @ direction.to(embedding)

    found = lens.patch_heads(model, *pairs, metric)
    of_texts = lens.patch_heads(model.text, TEXTS[:1], TEXTS[1:2], metric)
    assert isinstance(found, lens.HeadPatching)
    with patch("torch.autograd.grad", _no_gradients):
        estimated = lens.attribution_patching(model, *pairs, metric, check=1, kind="neurons")
    assert isinstance(estimated, lens.AttributionPatching)
    return found.effects, found.clean, of_texts.effects, estimated.estimates, estimated.exact.shape


def _no_gradients(outputs: Tensor, inputs: Any, *_: Any, **__: Any) -> list[Tensor]:
    """In the place of gradients, which a fake GPU has none of: those of the first pair alone, all of them one."""
    given = [inputs] if isinstance(inputs, Tensor) else inputs
    assert {each.device for each in given} == {outputs.device}
    return [
        torch.ones_like(each) * (torch.arange(len(each)).to(each).view(-1, *[1] * (each.ndim - 1)) == 0)
        for each in given
    ]


@case
def collecting(given: Given) -> Any:
    store = given.collected(neurons={0: [3, 1], 1: range(4)})
    if given.collected("sums", what="moments").has_rows:
        raise AssertionError("The moments alone were asked for.")
    again = given.collected(resume=True)
    opened = lens.ContributionStore.open(given.folder / "store", given.model)
    device = given.model.cfg.device
    picked = opened[torch.tensor([4, 1]).to(device)], opened[torch.arange(N) > 6], opened[[0, 0]]
    about = (opened.classes, opened.names, opened.positions.tolist(), opened.labels, len(opened.skipped), len(opened))
    total = [opened[rows].total() for rows in opened.blocks()]
    total.append(opened.head(-1, 0, [2, 0]))
    opened.warn_of_skipped()
    about = (*about, opened.has_many_skipped, opened.skipped_reasons())
    of_neurons = neurons_of(given, again)
    found = store.moments.covariance, again.sums.mlps, repr(opened)[:18]
    return about, total, [each.heads for each in picked], of_neurons, *found


def neurons_of(given: Given, store: lens.ContributionStore) -> Any:
    kept = store.neuron_moments(1)
    assert isinstance(kept, lens.NeuronMoments)
    principal = (kept + kept).principal(given.model)
    found = retrieval.strongest_neurons(store, -2, given.pool, 2)
    assert isinstance(found, retrieval.StrongestNeurons)
    assert isinstance(views.neuron_gallery_view(found, None), views.View)
    signs = principal.directions.abs(), principal.along.abs(), principal.share, principal.strength, principal.mean
    return kept.mean, kept.covariance(), kept.greatest.lengths, *signs, found.to_dataframe()


@case
def asking_a_store(given: Given) -> Any:
    store, classes = given.collected(), given.classes
    labels = torch.arange(N) % 4
    found = [lens.mean_ablation_curve(store, classes, labels, ablation=each) for each in ("mean", "zero", "resample")]
    dataset = ScenesDataset(N, 3, "background")
    found.append(lens.mean_ablation_curve(store, classes, labels, effect="total", images=dataset, batch_size=4))
    found.append(retrieval.extreme_images(store, TEXTS[:2], 2))
    found.append(retrieval.nearest_images(store, 2, 1, 1, 3))
    found.append(retrieval.nearest_to_text(store, TEXTS[0], 3, heads=1))
    found += [y for _, y in store.head_blocks([(1, 1), (0, 2)])]
    found.append(retrieval.nearest_images(store, given.parts.select(torch.tensor([1])), 1, 1, 3))
    provenance = store.provenance.dataset, store.provenance.positions.tolist()
    kept = lens.Moments.of(store).covariance, store.kept(ComponentSums), ComponentSums.of(store).mlps
    found += [kept[0], kept[1].mlps, kept[2], store.greatest_error() < 1e-5, provenance]
    return [*found, lens.text_span(given.model, store.moments, TEXTS, 2).to_dataframe()]


@case
def reporting(given: Given) -> Any:
    question = Question("what", tuple(TEXTS[:4]), given.labels)
    names = [f"{i}.png" for i in range(N)]
    report = analyse(given.model, given.images, names=names, pool=given.pool, questions=[question])
    report.save_tables(given.folder)
    assert report.completeness_error < 1e-5
    return report.layers, report.heads, report.text_span, report.top_images, report.ablation


@case
def drawing(given: Given) -> Any:
    model, images, pictures = given.model, given.images, given.pictures
    maps = lens.patch_text_map(model, images[:1], TEXTS[:2])
    scores = patch_text.head_text_scores(model, images[0], TEXTS[:2])
    drawn = [views.patch_text_view(maps, pictures[:1]), views.head_text_view(scores, pictures[0])]
    drawn.append(views.decision_view(lens.explain(model, images[0], *TEXTS[:2], random_sets=0), pictures[0]))
    cache = model.run_with_cache(images)[1]
    drawn.append(views.interaction_view(lens.interaction(model, images[:1], TEXTS[:1]), pictures[:1]))
    drawn.append(views.attention_view(model, cache, 1, pictures[0]))
    drawn.append(views.upstream_view(lens.upstream(model, images[:2], 1, 0)))
    drawn.append(views.tree_view(lens.upstream_tree(model, images[:1], 2, 0, depth=1)))
    if given.by_class_token:
        rows = torch.stack([cache["pattern", layer][0, :, 0] for layer in range(3)])
        drawn.append(views.class_attention_view(rows, pictures[0], model.cfg.grid_size))
    found = retrieval.extreme_images(given.parts, given.spans, 2)
    shown, named = dict(enumerate(pictures)), {i: str(i) for i in range(N)}
    drawn.append(views.head_gallery_view(list(given.spans), found, shown, named))
    nearest = retrieval.nearest_images(given.parts, 0, 2, 1, 3)
    drawn.append(views.leading_view(lens.patch_text_map(model, pictures[0], TEXTS[:2]).leading()))
    drawn.append(views.neighbours_view(pictures[0], nearest, shown, named, heads=[(2, 1)]))
    drawn.append(views.sparse_view(lens.sparse_text(model, given.parts, given.pool, 0.1), shown))
    drawn += [views.text_span_view(given.spans), views.head_texts_view(given.spans[2, 1])]
    drawn.append(views.explained_variance_view(given.spans.to_dataframe()))
    drawn.append(views.samples_view(found, list(named.values())))
    drawn.append(views.ablation_view(lens.mean_ablation_curve(given.parts, given.classes, given.labels)))
    left = ablation.text_span_completeness(given.parts, given.classes, {"own": given.spans}, given.labels, n_texts=[2])
    drawn.append(views.text_span_completeness_view(left))
    patched = (images[:1], images[1:2], lambda embedding: embedding[:, 0])
    heads = lens.patch_heads(model, *patched)
    some = heads.effects, heads.corrupted, heads.clean, ((0, 1),), frozenset({(0, 1)}), heads.effects[:, 0, 1:2]
    drawn.append(views.head_patching_view(heads))
    drawn.append(views.attribution_patching_view(lens.AttributionPatching("heads", *some, noise=0.0)))
    report = analyse(model, images, names=list(named.values()), pool=given.pool)
    drawn += [views.layer_view(report.layers), views.head_view(report.heads)]
    assert all(isinstance(each, views.View) for each in drawn)
    assert views.page("everything", drawn)
    return [each.title for each in drawn]
