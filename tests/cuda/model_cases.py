"""One run of every public function of a model and of a decomposition; see :mod:`tests.cuda.cases`."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

import clip_lens_plugin as lens
from clip_lens_plugin import ablation
from clip_lens_plugin.scenes.dataset import ScenesDataset
from tests.cuda.given import TEXTS, Given, N, case


@case
def running(given: Given) -> Any:
    model, images = given.model, given.images
    found, cache = model.run_with_cache(images)
    kept, _ = model.run_with_cache(images, names_filter=["blocks.0.attn.hook_z"], pos_slice=0)
    model.get_caching_hooks("blocks.0.hook_resid_post", pos_slice=0)
    begun = model.begin(images).stream
    return (
        begun,
        model.forward(images),
        found,
        kept,
        dict(cache.cache_dict),
        model.project(found[:, :0].new_ones(2, 48)),
    )


@case
def running_by_switches(given: Given) -> Any:
    model, tokens = given.model, lens.image_tokens(given.model, given.images)
    model.set_use_split_qkv_input(True)
    model.set_use_hook_mlp_in(True)
    edits = [("blocks.1.attn.hook_k_input", lambda x, hook: x * 1.5), ("blocks.1.hook_mlp_in", lambda x, hook: x + 1)]
    edited = model.run_with_hooks(tokens, fwd_hooks=edits)
    found = model.run_with_cache(tokens, pos_slice=0)[1]["blocks.0.hook_q_input"]
    model.set_use_split_qkv_input(False)
    model.set_use_hook_mlp_in(False)
    model.set_labels(["a", "b"], torch.eye(2, model.cfg.d_embed))
    return edited, found, model(tokens, stop_at_layer=1), model(tokens, return_type="logits")


@case
def pictures_and_texts(given: Given) -> Any:
    model = given.model
    prepared = model.prepare([Image.new("RGB", (50, 40), "red"), Image.new("RGB", (32, 32), "blue")])
    return model(prepared), model.encode_text(TEXTS), model.logit_scale, model.text_fingerprint(), given.pictures[0]


@case
def wrapping(given: Given) -> Any:
    model = given.model
    again = lens.HookedCLIP.from_open_clip(model.clip, model.preprocess, model.tokenizer)
    scenes = lens.HookedCLIP.from_pretrained("scenes", device=model.cfg.device)
    scene = scenes.prepare([ScenesDataset(1, 0, "background")[0][0]])
    return lens.as_hooked_clip(again)(given.images), scenes(scene), scenes.encode_text("red")


@case
def weights(given: Given) -> Any:
    model = given.model
    found = [model.W_Q, model.W_K, model.W_V, model.W_O, model.W_in, model.W_out, model.W_gate, model.W_P]
    found += [model.b_Q, model.b_K, model.b_V, model.b_O, model.b_in, model.b_out, model.b_gate, model.b_P]
    return found, model.accumulated_bias(2, mlp_input=True)


@case
def verifying(given: Given) -> Any:
    model = given.model
    model.check_source()
    assert model.verify(given.images[:2]).holds
    return model.verify().images, len(model.source_blocks)


@case
def texts(given: Given) -> Any:
    model, text = given.model, given.model.text
    assert isinstance(text, lens.HookedText)
    assert text.verify().holds
    assert model.verify(given.images[:1]).text is not None
    found = lens.decompose_text(model, TEXTS[:3])
    assert isinstance(found, lens.TextContributions)
    whole = lens.decompose(text, text.run_with_cache(TEXTS[:2])[1]).embedding, text(text.to_tokens(TEXTS[:2]))
    both = lens.interaction(model, given.images[:2], found, centred=(given.others, TEXTS))
    assert isinstance(both, lens.Interaction)
    assert given.parts.photographs is None
    parts = found.by_token(), found.by_word(), found.words(0, 1), [each.tokens for each in found.spelt]
    return whole, parts, both.heads(), both.layers(), both.terms(), both.words(), both.tokens()


@case
def second_orders(given: Given) -> Any:
    model, images = given.model, given.images[:3]
    every = lens.upstream(model, images, 2, batch_size=2).normalized()
    one = lens.upstream(model, images, -1, 1).towards(TEXTS[:2])
    tree = lens.upstream_tree(model, images[:1], 2, 1, TEXTS[:2])
    found = lens.second_order(model, images, 0, [1, 4])
    assert isinstance(every, lens.Upstream)
    assert isinstance(tree, lens.UpstreamTree)
    assert isinstance(found, lens.SecondOrder)
    scalars = lens.neuron_scalars(model, images, {1: torch.tensor([3, 0]).to(images.device)})
    effects = found.effects(), found.total(), found.lengths(), found.towards(TEXTS[:2]), found.strongest(4, 2)
    terms = every.stack()[0], every.shares(), one.neurons(1), one.contribution, one.to_dataframe()
    return terms, tree.to_dataframe(), effects, scalars[1], found.normalized().directions([4])


@case
def editing(given: Given) -> Any:
    model, heads = given.model, {"remove": [(0, 1)], "scale": {(1, 0): 0.5}, "project_out": {(2, 1): TEXTS[0]}}
    means = lens.head_means(model, given.images, batch_size=4)
    edited = model.edited(**heads, means=means)
    groups = ["a", "b"] * (N // 2)
    found = lens.edit_effects(edited, given.parts, given.classes, given.labels, groups, given.images, batch_size=4)
    assert isinstance(found, lens.EditEffects)
    scenes = lens.HookedCLIP.from_pretrained("scenes", device=model.cfg.device).edited(scale={(0, 0): 0.5})
    folder = scenes.save_open_clip(given.folder / "edited")
    card = (folder / "README.md").read_text(encoding="utf-8")
    return means, edited(given.images), found.to_dataframe(), found.neighbours_kept, card


@case
def vocabulary(given: Given) -> Any:
    model = given.model
    model.set_labels(TEXTS[:3])
    found: list[Any] = [model.to_single_token(TEXTS[1]), model.to_tokens(TEXTS[:2])]
    if model.pooling.n_heads == 1:
        cache = model.run_with_cache(given.images)[1]
        found += [model.b_U, model.W_U, model.unembed(cache["ln_final.hook_normalized"][:, 0])]
        for tokens in (TEXTS[0], 1, TEXTS[:2], model.to_tokens(TEXTS[:2])):
            found.append(model.tokens_to_residual_directions(tokens))
    return found


@case
def circuits(given: Given) -> Any:
    model = given.model
    found = [model.OV.AB, model.QK.AB, *(model.all_composition_scores(mode).scores for mode in "QKV")]
    return found, model.all_head_labels, sorted(model.tl_parameters())


@case
def belonging(given: Given) -> Any:
    model = given.model
    given.classes.refuse_other_model(model)
    with model.alone():
        model.check_holder()
        model.add_hook("blocks.0.hook_mlp_out", lambda x, hook: None)
        model.reset_hooks()
        model.follow_weights(next(model.clip.visual.parameters()))
    return ablation.Components.of_heads(given.model, [(0, 0)]).checked_for(given.model).name


@case
def constants(given: Given) -> Any:
    shared = given.parts.with_constants("shared")
    mixed = [shared.heads, shared.mlps, shared.head_coordinates, shared.own_coordinates, shared.share_of_heads()]
    joined = lens.Contributions.joined([given.parts, given.parts], 2 * N)
    return mixed, shared.noise, shared.head_edits, joined.heads, joined.completeness_error() < 1e-4


@case
def transformer_lens(given: Given) -> Any:
    model = given.model
    cache = model.run_with_cache(given.images)[1]
    pos = 0
    stack, labels = cache.decompose_resid(apply_ln=False, pos_slice=pos, return_labels=True)
    found = [stack, cache.accumulated_resid(pos_slice=pos), cache.stack_head_results(pos_slice=pos)]
    found += [cache.stack_activation("resid_post"), cache.get_full_resid_decomposition(pos_slice=pos)]
    if given.by_class_token:
        model.set_labels(TEXTS[:3])
        scaled = cache.apply_ln_to_stack(stack, pos_slice=pos)
        found += [scaled, cache.logit_attrs(stack, tokens=TEXTS[0], pos_slice=pos, has_batch_dim=True)]
    return found, labels


@case
def decomposing(given: Given) -> Any:
    model, images, texts = given.model, given.images, given.model.encode_text(TEXTS)
    whole = model.decompose(images, tokens=True, neurons=True, batch_size=4)
    found = [_everything(whole, texts), _everything(whole.normalized(), texts)]
    found += [whole.tokens(1, 2), whole.attention(1, 2), whole.neurons(0), whole.towards(texts, per_token=True)]
    found.append(_everything(lens.decompose(model, model.run_with_cache(images)[1]), texts))
    found.append(_everything(model.decompose(images, constants="spread"), texts))
    return found, repr(whole).split("completeness_error")[0]


def _everything(parts: lens.Contributions, texts: Tensor) -> list[Any]:
    found = [parts.embedding, parts.omega, parts.bias_weight, parts.head_coordinates, parts.heads, parts.mlps]
    found += [parts.embed, parts.attn_bias, parts.ln_bias, parts.pool_bias, parts.pool_mlp, parts.edits]
    found.append(parts.extra_components)
    found += [parts.towards(texts), parts.stack(), parts.total(), len(parts), parts.n_layers, parts.unit]
    assert parts.check().completeness_error() < 1e-5
    found += [parts.self_attention if parts.has_self_attention else None, parts.has_edits]
    return [*found, parts.readout.directions(parts.readout.checked_texts(texts))]


@case
def choosing_rows(given: Given) -> Any:
    rows = torch.tensor([3, 0, 3])
    found = [given.parts.select(rows), given.parts.select(rows.to(given.model.cfg.device)), given.parts.normalized()]
    given.parts.refuse_result_edits()
    assert given.parts.greatest_error() < 1e-5
    kept = given.parts.kept(lens.Moments), given.parts.provenance, given.parts.names, given.parts.own_source()
    return [each.heads for each in found], kept


@case
def decomposing_under_hooks(given: Given) -> Any:
    model, found = given.model, []
    hooks = [("blocks.0.attn.hook_z", ablation.zero_ablation(heads=[1]))]
    hooks += [("blocks.1.attn.hook_result", lambda x, hook: x * 1.5), ("blocks.1.ln1.hook_scale", lambda x, hook: x)]
    hooks += [("blocks.2.attn.hook_pattern", ablation.zero_ablation(heads=[0]))]
    with model.hooks(fwd_hooks=hooks):
        found.append(model.decompose(given.images, tokens=True))
        found.append(lens.decompose(model, model.run_with_cache(given.images)[1]))
    return [(each.heads, each.edits, each.total()) for each in found]
