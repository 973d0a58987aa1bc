"""The wrapped tower against open_clip itself and against a float64 restatement from its weights."""

from __future__ import annotations

import math

import open_clip
import pytest
import torch
from torch import Tensor, nn

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.layers.weight_refs import Norm
from tests.conftest import TEXT_CFG, TOWERS, VISION_CFG, random_clip, random_images

LOW_PRECISION = {"fp16": (torch.float16, 3e-3), "bf16": (torch.bfloat16, 2e-2)}
EXPLICIT_FORMS = ["hook_scale", "hook_normalized", "hook_attn_scores", "hook_pattern", "hook_result"]


def documented_names(n_layers: int) -> set[str]:
    """The hook points as the class documents them."""
    in_block = (
        "hook_resid_pre hook_attn_out hook_resid_mid hook_mlp_out hook_resid_post "
        "attn.hook_q attn.hook_k attn.hook_v attn.hook_z "
        "attn.hook_attn_scores attn.hook_pattern attn.hook_result "
        "mlp.hook_pre mlp.hook_post "
        "ln1.hook_scale ln1.hook_normalized ln2.hook_scale ln2.hook_normalized"
    )
    names = {f"blocks.{layer}.{name}" for layer in range(n_layers) for name in in_block.split()}
    return names | {"hook_embed", "ln_final.hook_scale", "ln_final.hook_normalized"}


HOOK_NAMES = sorted(documented_names(VISION_CFG["layers"]))


def distance(a: Tensor, b: Tensor) -> float:
    """Norm of the difference, relative to b's."""
    a, b = a.detach().double(), b.detach().double()
    assert a.shape == b.shape
    return float((a - b).norm() / b.norm())


def listen(x: Tensor, hook) -> None:
    """A hook that looks and changes nothing."""


def low_precision_clip(changes: dict, precision: str, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The same random weights as open_clip's own factory holds them in a precision, LayerNorm in float32."""
    config = {"embed_dim": 24, "text_cfg": dict(TEXT_CFG), **changes}
    config["vision_cfg"] = {**VISION_CFG, **changes.get("vision_cfg", {})}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-test", config)
    clip = open_clip.create_model("tiny-test", precision=precision)
    clip.load_state_dict(random_clip(changes).state_dict())
    return clip.eval()


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale, normalised and output."""
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return scale, centred / scale, centred / scale * weight + bias


def restated(model: HookedCLIP, images: Tensor) -> dict[str, Tensor]:
    """Every activation and the "output", by einsums on the weights that the model shows."""
    tower = {name: weight.detach() for name, weight in model.clip.visual.state_dict().items()}
    size = tower["conv1.weight"].shape[-1]
    patches = images.unfold(2, size, size).unfold(3, size, size)
    x = torch.einsum("bcyxij,dcij->byxd", patches, tower["conv1.weight"]).flatten(1, 2)
    x = torch.cat([tower["class_embedding"].expand(len(x), 1, -1), x], 1) + tower["positional_embedding"]
    if "ln_pre.weight" in tower:
        x = layer_norm(x, tower["ln_pre.weight"], tower["ln_pre.bias"])[2]
    values = {"hook_embed": x}
    for l in range(model.cfg.n_layers):
        block = f"blocks.{l}."
        source = f"transformer.resblocks.{l}."
        values[block + "hook_resid_pre"] = x
        scale, normalized, into = layer_norm(x, tower[source + "ln_1.weight"], tower[source + "ln_1.bias"])
        values[block + "ln1.hook_scale"], values[block + "ln1.hook_normalized"] = scale, normalized
        q = torch.einsum("bnd,hdk->bnhk", into, model.W_Q[l]) + model.b_Q[l]
        k = torch.einsum("bnd,hdk->bnhk", into, model.W_K[l]) + model.b_K[l]
        v = torch.einsum("bnd,hdk->bnhk", into, model.W_V[l]) + model.b_V[l]
        scores = torch.einsum("bmhk,bnhk->bhmn", q, k) / math.sqrt(q.shape[-1])
        pattern = scores.exp() / scores.exp().sum(-1, keepdim=True)
        z = torch.einsum("bhmn,bnhk->bmhk", pattern, v)
        result = torch.einsum("bmhk,hkd->bmhd", z, model.W_O[l])
        values |= {block + f"attn.hook_{name}": value for name, value in {"q": q, "k": k, "v": v, "z": z}.items()}
        values[block + "attn.hook_attn_scores"], values[block + "attn.hook_pattern"] = scores, pattern
        values[block + "attn.hook_result"] = result
        values[block + "hook_attn_out"] = result.sum(2) + model.b_O[l]
        x = values[block + "hook_resid_mid"] = x + values[block + "hook_attn_out"]
        scale, normalized, into = layer_norm(x, tower[source + "ln_2.weight"], tower[source + "ln_2.bias"])
        values[block + "ln2.hook_scale"], values[block + "ln2.hook_normalized"] = scale, normalized
        pre = torch.einsum("bnd,dm->bnm", into, model.W_in[l]) + model.b_in[l]
        if model.cfg.act_fn == "quick_gelu":
            post = pre / (1 + (-1.702 * pre).exp())
        else:
            post = pre * (1 + torch.erf(pre / math.sqrt(2))) / 2
        values[block + "mlp.hook_pre"], values[block + "mlp.hook_post"] = pre, post
        values[block + "hook_mlp_out"] = torch.einsum("bnm,md->bnd", post, model.W_out[l]) + model.b_out[l]
        x = values[block + "hook_resid_post"] = x + values[block + "hook_mlp_out"]
    visual = model.clip.visual
    if visual.pool_type == "avg" and visual.final_ln_after_pool:
        x = x[:, 1:].mean(1, keepdim=True)
    scale, normalized, out = layer_norm(x, tower["ln_post.weight"], tower["ln_post.bias"])
    values["ln_final.hook_scale"], values["ln_final.hook_normalized"] = scale, normalized
    pooled = out[:, 1:].mean(1) if visual.pool_type == "avg" and not visual.final_ln_after_pool else out[:, 0]
    values["output"] = pooled @ model.W_P
    return values


# ---------------------------------------------------------------------- the output


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("variant", TOWERS)
def test_output_equals_open_clip(variant: str, dtype: torch.dtype, tolerance: float, grad: bool) -> None:
    clip = random_clip(TOWERS[variant], dtype)
    model = HookedCLIP.from_open_clip(clip)
    images = random_images(model)
    with torch.set_grad_enabled(grad):
        assert distance(model(images), clip.encode_image(images)) < tolerance
    assert model(images).dtype == dtype


@pytest.mark.parametrize("precision", LOW_PRECISION)
@pytest.mark.parametrize("variant", sorted(set(TOWERS) - {"layer_scale"}))  # there open_clip itself fails
def test_low_precision_equals_open_clip(variant: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dtype, tolerance = LOW_PRECISION[precision]
    clip = low_precision_clip(TOWERS[variant], precision, monkeypatch)
    model = HookedCLIP.from_open_clip(clip)
    images = random_images(model)
    with torch.no_grad():
        output = model(images)
        assert distance(output, clip.encode_image(images)) < tolerance
        exact = random_clip(TOWERS[variant]).encode_image(images.float())
    assert distance(output, exact) < tolerance
    assert (output.dtype, model.cfg.dtype, model.ln_final.w.dtype) == (dtype, dtype, torch.float32)


@pytest.mark.parametrize("form", EXPLICIT_FORMS)
@pytest.mark.parametrize("precision", ["fp64", "fp32", "fp16", "bf16"])
def test_explicit_forms_equal_open_clip(form: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if precision in LOW_PRECISION:
        dtype, tolerance = LOW_PRECISION[precision]
        clip = low_precision_clip({}, precision, monkeypatch)
    else:
        dtype, tolerance = {"fp64": (torch.float64, 1e-12), "fp32": (torch.float32, 1e-5)}[precision]
        clip = random_clip(dtype=dtype)
    model = HookedCLIP.from_open_clip(clip)
    images = random_images(model)
    with torch.no_grad():
        output = model.run_with_hooks(images, fwd_hooks=[(lambda name: name.endswith(form), listen)])
        assert distance(output, clip.encode_image(images)) < tolerance
    assert output.dtype == dtype


def test_every_weight_and_activation_equals_the_restatement(plain_tower: HookedCLIP) -> None:
    images = random_images(plain_tower)
    with torch.no_grad():
        output, cache = plain_tower.run_with_cache(images, names_filter=lambda name: True)
        expected = restated(plain_tower, images)
        assert distance(expected["output"], plain_tower.clip.encode_image(images)) < 1e-12
    assert distance(output, expected.pop("output")) < 1e-12
    assert set(cache.keys()) == set(expected)
    assert {name: d for name in expected if (d := distance(cache[name], expected[name])) > 1e-12} == {}


def test_images_are_cast_to_the_weights_dtype(model: HookedCLIP) -> None:
    images = random_images(model).float()
    assert distance(model(images), model.clip.encode_image(images.double())) < 1e-12


def test_gradients_reach_the_images_as_in_open_clip(tower: HookedCLIP) -> None:
    images = random_images(tower).requires_grad_()
    direction = torch.randn(tower.cfg.d_embed, dtype=torch.float64)
    (expected,) = torch.autograd.grad((tower.clip.encode_image(images) @ direction).sum(), images)
    (fused,) = torch.autograd.grad((tower(images) @ direction).sum(), images)
    heard = tower.run_with_hooks(images, fwd_hooks=[(lambda name: True, listen)])
    (explicit,) = torch.autograd.grad((heard @ direction).sum(), images)
    assert distance(fused, expected) < 1e-12
    assert distance(explicit, expected) < 1e-12


# ---------------------------------------------------------------------- hooks


@pytest.fixture(scope="module")
def plain() -> HookedCLIP:
    return HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))


@pytest.fixture(scope="module", params=["plain", "norm_then_mean", "clipa"])
def pooled(request: pytest.FixtureRequest) -> HookedCLIP:
    """A tower of each pooling."""
    return HookedCLIP.from_open_clip(random_clip(TOWERS[request.param], torch.float64))


def test_hook_points_are_the_documented_ones(plain_tower: HookedCLIP) -> None:
    assert set(plain_tower.hook_dict) == documented_names(plain_tower.cfg.n_layers)


@pytest.mark.parametrize("name", HOOK_NAMES)
def test_every_hook_point_is_live(pooled: HookedCLIP, name: str) -> None:
    """An edit moves the output, and with nothing returned the output is open_clip's."""
    plain, images = pooled, random_images(pooled)
    heard = []
    noise = torch.Generator().manual_seed(1)

    def edit(x: Tensor, hook) -> Tensor:
        heard.append(hook.name)
        return x * (1 + 0.3 * torch.rand(x.shape, generator=noise, dtype=x.dtype))

    with torch.no_grad():
        expected = plain.clip.encode_image(images)
        assert distance(plain.run_with_hooks(images, fwd_hooks=[(name, edit)]), expected) > 1e-4
        assert distance(plain.run_with_hooks(images, fwd_hooks=[(name, listen)]), expected) < 1e-12
        assert distance(plain(images), expected) < 1e-12
    assert heard == [name]


@pytest.mark.parametrize("name", HOOK_NAMES)
def test_an_edit_in_place_is_an_edit_returned(plain: HookedCLIP, name: str) -> None:
    """With gradients on: the same output and the same gradient."""
    images = random_images(plain).requires_grad_()

    def in_place(x: Tensor, hook) -> None:
        x[:, :1] *= 1.3

    def returned(x: Tensor, hook) -> Tensor:
        factor = torch.ones_like(x)
        factor[:, :1] = 1.3
        return x * factor

    outputs = [plain.run_with_hooks(images, fwd_hooks=[(name, hook)]) for hook in (in_place, returned)]
    gradients = [torch.autograd.grad(output.pow(2).sum(), images)[0] for output in outputs]
    assert distance(outputs[0], outputs[1]) < 1e-12
    assert distance(gradients[0], gradients[1]) < 1e-12


@pytest.mark.parametrize("form", ["detached", "constant", "gate"])
def test_gradients_through_the_scale(plain: HookedCLIP, form: str) -> None:
    """A hook on ``ln_final.hook_scale`` decides the gradient even where it leaves the value as it is."""
    images = random_images(plain).requires_grad_()
    stream = restated(plain, images)["blocks.2.hook_resid_post"]
    gate = torch.ones((), dtype=torch.float64, requires_grad=True)
    edits = {
        "detached": lambda scale, hook=None: scale.detach(),
        "constant": lambda scale, hook=None: torch.full_like(scale, 2.5),
        "gate": lambda scale, hook=None: scale * gate,
    }
    norm = plain.clip.visual.ln_post
    centred = stream - stream.mean(-1, keepdim=True)
    scale = edits[form](layer_norm(stream, norm.weight, norm.bias)[0])
    expected = (centred / scale * norm.weight + norm.bias)[:, 0] @ plain.W_P
    output = plain.run_with_hooks(images, fwd_hooks=[("ln_final.hook_scale", edits[form])])
    assert distance(output, expected) < 1e-12
    inputs = [images, gate] if form == "gate" else [images]
    gradients = torch.autograd.grad(output.pow(2).sum(), inputs)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected.pow(2).sum(), inputs), strict=True):
        assert distance(gradient, wanted) < 1e-12


@pytest.mark.parametrize("name", HOOK_NAMES)
def test_backward_hooks_fire(plain: HookedCLIP, name: str) -> None:
    """The gradient that a backward hook sees is the one of an added zero."""
    images = random_images(plain)
    seen, zeros = [], []

    def add_zero(x: Tensor, hook) -> Tensor:
        zeros.append(torch.zeros_like(x, requires_grad=True))
        return x + zeros[0]

    output = plain.run_with_hooks(images, fwd_hooks=[(name, add_zero)])
    (expected,) = torch.autograd.grad(output.pow(2).sum(), zeros)
    with plain.hooks(bwd_hooks=[(name, lambda gradient, hook: seen.append(gradient.clone()))]):
        plain(images).pow(2).sum().backward()
    plain.zero_grad()
    assert distance(seen[0], expected) < 1e-12
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("listened", "fused_attentions", "explicit_norms"),
    [
        ([], 3, 0),
        (["blocks.1.attn.hook_pattern"], 2, 0),
        (["blocks.0.attn.hook_attn_scores", "blocks.2.attn.hook_pattern"], 1, 0),
        (["blocks.1.attn.hook_z", "blocks.1.attn.hook_result", "blocks.0.mlp.hook_post"], 3, 0),
        (["ln_final.hook_scale"], 3, 1),
        (["blocks.0.ln1.hook_normalized", "blocks.1.ln2.hook_scale"], 3, 2),
    ],
)
def test_fused_kernels_run_while_nobody_listens(
    plain: HookedCLIP,
    monkeypatch: pytest.MonkeyPatch,
    listened: list[str],
    fused_attentions: int,
    explicit_norms: int,
) -> None:
    counts = {"attention": 0, "norm": 0}
    attention, normalized_and_scale = nn.functional.scaled_dot_product_attention, Norm.normalized_and_scale

    def counted_attention(*args, **kwargs):
        counts["attention"] += 1
        return attention(*args, **kwargs)

    def counted_norm(self, x):
        counts["norm"] += 1
        return normalized_and_scale(self, x)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", counted_attention)
    monkeypatch.setattr(Norm, "normalized_and_scale", counted_norm)
    plain.run_with_hooks(random_images(plain), fwd_hooks=[(name, listen) for name in listened])
    assert counts == {"attention": fused_attentions, "norm": explicit_norms}
    counts.update(attention=0, norm=0)
    plain(random_images(plain))
    assert counts == {"attention": 3, "norm": 0}


# ---------------------------------------------------------------------- weights
