"""A ``TransformerBridge`` where a ``HookedCLIP`` is expected: the same weights, and the bridge's caches renamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge

from clip_lens_plugin.bridge.forward import image_features
from clip_lens_plugin.bridge.original import (
    blank,
    refuse_changes,
    refuse_left_over,
    structure_of,
    tensors_of,
)
from clip_lens_plugin.bridge.probe import refuse_other_embedding
from clip_lens_plugin.bridge.watch import BridgeAsSeen, hooked_points, refuse_changed_bridge
from clip_lens_plugin.layers.pooling.attention_pool import AttentionPool
from clip_lens_plugin.layers.pooling.pooling import NORMALIZED
from clip_lens_plugin.model.bridged import resolved
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.loading.hub_model import wrapped
from clip_lens_plugin.model.text.labels import Labels
from clip_lens_plugin.numerics.precision import full_precision, rounding, same_up_to


@dataclass
class _Wrapped:
    """What was made of a bridge.

    Attributes:
        hooked: on the bridge's own weights.
        seen: the bridge, as it was then.
        is_probed: whether the bridge's own forward was found to give the same for an image since then.
    """

    hooked: HookedCLIP
    seen: BridgeAsSeen
    is_probed: bool = False

    def is_current(self, bridge: TransformerBridge) -> bool:
        """Whether the bridge runs as it did, on the same weights, which are on their device and in their dtype."""
        weight, cfg = bridge.ln_final.w, self.hooked.cfg
        if (cfg.device, cfg.dtype) != (weight.device, weight.dtype):
            return False
        if not self.seen.is_unchanged(bridge):
            if not self.seen.is_current(bridge):
                return False
            self.seen = BridgeAsSeen.of(bridge)  # So that what makes no difference is looked at once.
        return True


_WRAPPED: WeakKeyDictionary[TransformerBridge, _Wrapped] = WeakKeyDictionary()


def as_hooked_clip(model: HookedCLIP | TransformerBridge) -> HookedCLIP:
    """The model itself, or the :class:`HookedCLIP` of a bridge: its weights are the bridge's own, not copies.

    Its preprocessing and tokenizer are those of the bridge's name. Made once for a bridge.

    Raises:
        TypeError: if it is neither.
        UnsupportedTowerError: if the bridge holds a model that is not supported; a SourceMismatchError, which is one,
            if something was changed on the bridge, so that its own forward gives something else for an image.
        ValueError: if hooks are on the bridge: what is computed from images would not have them.
    """
    return resolved(model)


class BridgeResolver:
    """What public functions that are given a bridge work on."""

    def hooked(self, bridge: TransformerBridge) -> HookedCLIP:
        """See :func:`as_hooked_clip`."""
        found = _wrapped(bridge)
        if found.seen.has_hooks():
            raise ValueError(
                f"The bridge has hooks at {', '.join(hooked_points(bridge)[:4])}, which have no effect here. Run the "
                f"bridge with them and a cache and decompose that: decompose(bridge, cache)."
            )
        found.seen.refuse_changes_for_all(found.hooked.cfg.model_name)
        if not found.is_probed:
            refuse_other_embedding(bridge, found.hooked)
            found.is_probed = True
        return found.hooked

    def with_cache(self, bridge: TransformerBridge, cache: ActivationCache) -> tuple[HookedCLIP, ActivationCache]:
        """The :class:`HookedCLIP` of a bridge, and the bridge's cache under its names and shapes.

        Hooks may be on the bridge: what they did is in the cache.

        Raises:
            UnsupportedTowerError: see :func:`as_hooked_clip`.
            ValueError: if the cached output is not what follows from the cached activations before it, since a hook
                changed something between that a :class:`HookedCLIP` does not have.
        """
        hooked = hooked_of(bridge)
        _refuse_other_output(hooked, cache)
        return hooked, _translated(hooked, cache)


def hooked_of(bridge: Any) -> HookedCLIP:
    """The :class:`HookedCLIP` of a bridge, made anew where the bridge's weights have been replaced or converted.

    Text labels that were set on it are carried over.

    Raises:
        TypeError: if it is no bridge.
        UnsupportedTowerError: if the bridge holds a model that is not supported; a SourceMismatchError, which is one,
            if it has been changed.
        ValueError: if its weights are not in memory.
    """
    return _wrapped(bridge).hooked


def _wrapped(bridge: Any) -> _Wrapped:
    found = _WRAPPED.get(bridge)
    if found is not None and found.is_current(bridge):
        return found
    original = bridge.original_model
    plain = blank(original)
    structure = structure_of(plain)
    refuse_changes(original, structure, image_features)
    refuse_changed_bridge(bridge, structure)
    _share_weights(plain, original)
    hooked = HookedCLIP(*wrapped(plain, str(bridge.cfg.model_name)))
    labels: Labels | None = vars(bridge).pop("_labels", None) if found is None else found.hooked.labels
    if labels is not None:
        hooked.labels = labels.converted(labels.embeddings.to(hooked.cfg.device, hooked.cfg.dtype))
        hooked.cfg.d_vocab = len(labels.names)
    _WRAPPED[bridge] = _Wrapped(hooked, BridgeAsSeen.of(bridge))
    return _WRAPPED[bridge]


def _share_weights(plain: nn.Module, original: nn.Module) -> None:
    """Gives the model the bridge's own tensors, and none of its modules: a hook point can have one owner."""
    named = tensors_of(original)
    away = [name for name in plain.state_dict() if named[name].is_meta]
    if away:
        raise ValueError(
            f"The bridge's weights are not in memory ({away[0]} is on the meta device). Boot it without offloading."
        )
    plain.load_state_dict({name: named[name] for name in plain.state_dict()}, assign=True)
    for name, _ in list(plain.named_buffers()):
        owner, _, last = name.rpartition(".")
        plain.get_submodule(owner).register_buffer(last, named[name], persistent=False)
    refuse_left_over(original, plain.parameters())
    plain.eval()


def _translated(model: HookedCLIP, cache: ActivationCache) -> ActivationCache:
    """The activations that a :class:`HookedCLIP` has too."""
    given = cache.cache_dict
    found = {name: given[name] for name in model.hook_dict if name in given}
    entered = next((given[name] for name in ("ln_pre.hook_out", "embed.hook_out") if name in given), None)
    if entered is not None:
        found.setdefault("hook_embed", entered)
    return ActivationCache(found, model, has_batch_dim=cache.has_batch_dim)


@full_precision()
def _refuse_other_output(model: HookedCLIP, cache: ActivationCache) -> None:
    """Refuses a cache in which what the pool read, or the output, is another than the last LayerNorm's is."""
    given, dtype = cache.cache_dict, model.cfg.dtype
    name = "pool.hook_in" if isinstance(model.pooling, AttentionPool) else "visual_projection.hook_out"
    normalized = given.get(NORMALIZED)
    if name not in given or normalized is None or normalized.ndim != 3 or normalized.shape[1] != model.cfg.n_ctx:
        return
    if isinstance(model.pooling, AttentionPool):
        expected = model.ln_final.norm.apply_affine(normalized, dtype)
    else:
        expected = model.project(model.pooling.pooled(normalized, model.ln_final, dtype))
    allowed = same_up_to(rounding(dtype, model.cfg.device))
    if (given[name] - expected).norm() > allowed * (given[name].norm() + expected.norm()):
        raise ValueError(
            f"The output of this run does not follow from what was cached before it: a hook changed {name}, "
            f"ln_final.hook_out or what is between. Edit ln_final.hook_normalized or something before it instead."
        )
