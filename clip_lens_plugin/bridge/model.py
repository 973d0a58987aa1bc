"""A ``TransformerBridge`` where a ``HookedCLIP`` is expected: the same weights, and the bridge's caches renamed."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

from clip_lens_plugin.components.attention_pool import AttentionPool
from clip_lens_plugin.components.pooling import NORMALIZED
from clip_lens_plugin.factors import same_up_to
from clip_lens_plugin.hooked_clip import HookedCLIP
from clip_lens_plugin.loading.hugging_face import wrapped
from clip_lens_plugin.precision import full_precision, rounding

CLIPLike = HookedCLIP | TransformerBridge
"""What the public functions take as their model."""

_HOOKED: WeakKeyDictionary[TransformerBridge, HookedCLIP] = WeakKeyDictionary()


def as_hooked_clip(model: CLIPLike) -> HookedCLIP:
    """The model itself, or the :class:`HookedCLIP` of a bridge: its weights are the bridge's own, not copies.

    Its preprocessing and tokenizer are those of the bridge's name. Made once for a bridge.

    Raises:
        TypeError: if it is neither.
        UnsupportedTowerError: if the bridge holds a model that is not supported.
        ValueError: if hooks are on the bridge: what is computed from images would not have them.
    """
    if isinstance(model, HookedCLIP):
        return model
    hooked = _of_bridge(model)
    active = sorted(name for name, point in model.hook_dict.items() if point.has_hooks(dir="fwd"))
    if active:
        raise ValueError(
            f"The bridge has hooks at {', '.join(active[:4])}, which have no effect here. Run the bridge with them and "
            f"a cache and decompose that: decompose(bridge, cache)."
        )
    return hooked


def with_cache(model: CLIPLike, cache: ActivationCache) -> tuple[HookedCLIP, ActivationCache]:
    """The model as by :func:`as_hooked_clip`, and its cache under a :class:`HookedCLIP`'s names and shapes.

    Hooks may be on the bridge: what they did is in the cache.

    Raises:
        TypeError, UnsupportedTowerError: see :func:`as_hooked_clip`.
        ValueError: if the cached output is not what follows from the cached activations before it, since a hook changed
            something between that a :class:`HookedCLIP` does not have.
    """
    if isinstance(model, HookedCLIP):
        return model, cache
    hooked = _of_bridge(model)
    translated = _translated(hooked, cache)
    _refuse_other_output(hooked, cache, translated)
    return hooked, translated


def _of_bridge(bridge: Any) -> HookedCLIP:
    if not isinstance(bridge, TransformerBridge):
        raise TypeError(
            f"The model must be a HookedCLIP or a TransformerBridge, got {type(bridge).__name__}. Wrap it first: "
            f"HookedCLIP.from_open_clip(model) or HookedCLIP.from_transformers(model)."
        )
    weight = next(bridge.original_model.parameters())
    hooked = _HOOKED.get(bridge)
    if hooked is None or (hooked.cfg.device, hooked.cfg.dtype) != (weight.device, weight.dtype):
        source = str(bridge.cfg.model_name)
        hooked = _HOOKED[bridge] = HookedCLIP(*wrapped(_plain(bridge.original_model), source))
    return hooked


def _plain(original: nn.Module) -> Any:
    """The model on the same weights, without the bridge's modules: a hook point can have one owner."""
    made: Any = type(original)
    with torch.device("meta"):
        plain = made(original.config)
    named = {name.replace("._original_component", ""): tensor for name, tensor in _tensors(original)}
    plain.load_state_dict({name: named[name] for name in plain.state_dict()}, assign=True)
    for name, _ in list(plain.named_buffers()):
        owner, _, last = name.rpartition(".")
        plain.get_submodule(owner).register_buffer(last, named[name], persistent=False)
    return plain.eval()


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]


def _translated(model: HookedCLIP, cache: ActivationCache) -> ActivationCache:
    """What a bridge calls otherwise, or does not keep.

    A bridge's ``hook_embed`` comes before ``ln_pre``; CLIP's ``ln_final`` sees the class token alone, without a
    dimension of positions; and SigLIP's pooling head has no hook points inside, so that they are computed again from
    what it read.
    """
    given = cache.cache_dict
    found = {name: given[name] for name in model.hook_dict if name in given}
    entered = next((given[name] for name in ("ln_pre.hook_out", "embed.hook_out") if name in given), None)
    if entered is not None:
        found["hook_embed"] = entered
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    if isinstance(model.pooling, AttentionPool):
        found.pop("pool.hook_out", None)
        if NORMALIZED in found and last in found:
            found |= _pooled(model, found[last], found[NORMALIZED])
    else:
        final = {name: x for name, x in found.items() if name.startswith("ln_final.") and x.ndim == 2}
        found |= {name: x[:, None] for name, x in final.items()}
    return ActivationCache(found, model, has_batch_dim=cache.has_batch_dim)


@full_precision()
def _refuse_other_output(model: HookedCLIP, cache: ActivationCache, translated: ActivationCache) -> None:
    name = next((name for name in ("visual_projection.hook_out", "pool.hook_out") if name in cache.cache_dict), None)
    if name is None or model.pooling.output not in translated.cache_dict:
        return
    pooled = model.pooling.pooled(translated[model.pooling.output], model.ln_final, model.cfg.dtype)
    output, expected = cache.cache_dict[name], model.project(pooled)
    allowed = same_up_to(rounding(model.cfg.dtype, model.cfg.device))
    if (output - expected).norm() > allowed * (output.norm() + expected.norm()):
        raise ValueError(
            f"The output of this run does not follow from what was cached before it: a hook changed {name}, "
            f"ln_final.hook_out or the pool's input. Edit ln_final.hook_normalized or something before it instead."
        )


def _pooled(model: HookedCLIP, stream: Tensor, normalized: Tensor) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}

    def put(x: Tensor, hook: HookPoint) -> Tensor:
        return normalized

    def keep(x: Tensor, hook: HookPoint) -> None:
        kept[str(hook.name)] = x

    inside = [name for name in model.hook_dict if name.startswith("pool.")]
    with model.hooks(fwd_hooks=[(NORMALIZED, put), *((name, keep) for name in inside)]):
        model.pooling(stream, model.ln_final)
    return kept
