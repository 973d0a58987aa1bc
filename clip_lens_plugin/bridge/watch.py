"""A bridge as it was when its ``HookedCLIP`` was made, and whether it still is; quick enough to ask at every call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from operator import is_
from typing import Any

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint as TransformerLensHookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components import LinearBridge
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent
from transformer_lens.model_bridge.sources.transformers_driver import TransformersDriver

from clip_lens_plugin.adapters.checks.seen import HARMLESS, Seen, functions_of, refuse_other_functions
from clip_lens_plugin.adapters.checks.source_check import drops
from clip_lens_plugin.adapters.checks.structure import (
    RUNS,
    SourceMismatchError,
    acting_hooks,
    refuse_global_hooks,
    replaced_function,
    title,
)
from clip_lens_plugin.bridge.block import LiveAttentionBridge, LiveMLPBridge, LiveNormBridge, VisionBlockBridge
from clip_lens_plugin.bridge.forward import image_features
from clip_lens_plugin.bridge.original import Structure, changed, modules_of
from clip_lens_plugin.bridge.pool import AlreadyNormalised, LivePoolBridge
from clip_lens_plugin.dependencies.of_transformer_lens import OF_A_RUN, STATE_ALONE, driver_of, plain_name
from clip_lens_plugin.layers.hook_point import HookPoint
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.mlp import MLP
from clip_lens_plugin.layers.pooling.attention_pool import AttentionPool

COMPONENTS = (
    *(GeneralizedComponent, LinearBridge, VisionBlockBridge, LiveAttentionBridge, LiveMLPBridge, LiveNormBridge),
    *(LivePoolBridge, AttentionPool, LayerNorm, MLP, nn.ModuleList),
)
"""What a bridge puts around Hugging Face's modules."""

POINTS = (HookPoint, TransformerLensHookPoint)
FUNCTIONS = functions_of({*COMPONENTS, *POINTS, AlreadyNormalised, TransformersDriver} - {nn.ModuleList})
"""What those classes computed when this module was imported."""

READ_OF_CONFIG = ("patch_size", "image_size", "num_patches")
"""What a run reads of the vision model's config; other entries count when a model is built."""

TABLES = ("_modules", "_forward_hooks", "_forward_pre_hooks")


@dataclass(frozen=True)
class BridgeAsSeen:
    """A bridge as it was.

    Attributes:
        state: what stands above its modules in a run. The bridge itself is not kept, so that it can be let go of.
        modules: every module that takes part in a run, without hook points, and those of the text tower.
        points: the hook points, each with its class and how many attributes it had.
        kept: what components keep that is no child of theirs, each with its owner and the attribute's name.
        tensors: parameters and buffers, each table with what it held.
        random: components that drop something in training mode.
    """

    state: tuple[Any, ...]
    modules: tuple[Seen, ...]
    points: tuple[tuple[nn.Module, type, int], ...]
    kept: tuple[tuple[nn.Module, str, nn.Module], ...]
    tensors: tuple[tuple[Mapping[str, Tensor | None], tuple[Tensor | None, ...]], ...]
    random: tuple[tuple[str, nn.Module], ...]

    @classmethod
    def of(cls, bridge: TransformerBridge) -> BridgeAsSeen:
        """The bridge as it is now."""
        named = list(_running(bridge))
        left_out = (TransformerLensHookPoint, type(bridge.original_model))  # The model's own forward is the bridge's.
        modules = [(path, module) for path, module in named if not isinstance(module, left_out)]
        points = [module for _, module in named if isinstance(module, TransformerLensHookPoint)]
        tables = [table for _, module in modules for table in (module._parameters, module._buffers) if table]
        return cls(
            state=_state_of(bridge),
            modules=tuple(Seen.of(path, module, HARMLESS | OF_A_RUN) for path, module in modules),
            points=tuple((point, type(point), len(vars(point))) for point in points),
            kept=tuple(kept for _, module in modules for kept in _kept_by(module)),
            tensors=tuple((table, tuple(table.values())) for table in tables),
            random=tuple((path, module) for path, module in modules if drops(module)),
        )

    def is_unchanged(self, bridge: TransformerBridge) -> bool:
        """Whether nothing at all has changed, neither how the bridge runs nor which tensors its weights are."""
        return self._is_same_beside_modules(bridge) and all(seen.is_unchanged() for seen in self.modules)

    def is_current(self, bridge: TransformerBridge) -> bool:
        """Whether nothing has changed that counts; takes longer than :meth:`is_unchanged`."""
        return self._is_same_beside_modules(bridge) and all(seen.change() is None for seen in self.modules)

    def _is_same_beside_modules(self, bridge: TransformerBridge) -> bool:
        return (
            _state_of(bridge) == self.state
            and all(type(point) is kind and len(vars(point)) == size for point, kind, size in self.points)
            and all(vars(owner).get(name) is kept for owner, name, kept in self.kept)
            and all(_are_the_same(table, before) for table, before in self.tensors)
        )

    def has_hooks(self) -> bool:
        """Whether hooks stand at hook points, TransformerLens's or PyTorch's own, that may change a run."""
        return any(point._forward_hooks or point._forward_pre_hooks for point, _, _ in self.points)

    def refuse_changes_for_all(self, name: str) -> None:
        """Raises SourceMismatchError where something acts on a run that is kept with no single module of the bridge.

        That is a hook of PyTorch's on all modules, a function of a class that was replaced, or training mode where a
        component then drops values at random.
        """
        refuse_global_hooks(name)
        refuse_other_functions(FUNCTIONS, name)
        for path, module in self.random:
            if module.training:
                raise SourceMismatchError(
                    f"{name}: {path} of the bridge drops values at random, since it is in training mode. Call "
                    f"bridge.eval() first."
                )


def refuse_changed_bridge(bridge: TransformerBridge, structure: Structure) -> None:
    """Refuses a bridge that computes something else than its components and the model in it say.

    Args:
        bridge: whose model :func:`~clip_lens_plugin.bridge.original.refuse_changes` has let pass.
        structure: of that model.

    Raises:
        SourceMismatchError: if the bridge or a component is of another class, has PyTorch's hooks around it or a
            function of its own, or is not part of the model that the bridge runs; the message names it.
    """
    original: Any = bridge.original_model
    driver = driver_of(bridge)
    if type(driver) is not TransformersDriver or "forward" in vars(driver):
        raise changed("the bridge", "is run by something else than TransformerLens's own driver")
    own = vars(original).get("forward")
    if not (isinstance(own, partial) and own.func is image_features and own.args == (original,)):
        raise changed("original_model", "is not the model that the bridge was booted from")
    layers = original.vision_model.encoder.layers
    named = all(block.hook_in.name == f"blocks.{l}.hook_in" for l, block in enumerate(bridge.blocks))
    if not named or list(bridge.blocks) != list(layers):
        raise changed("the bridge", "has other blocks, or in another order, than the model that it runs")
    inside = {id(module) for module in original.modules()}
    sources = {id(chain[-1]) for _, chain in modules_of(original, structure)}
    for path, module in [("the bridge", bridge), *_running(bridge)]:
        if id(module) in sources:
            continue
        if module is not bridge and type(module) not in (*COMPONENTS, *POINTS):
            raise changed(path, f"is a {title(type(module))}, which a bridge of an image tower does not have")
        if isinstance(module, GeneralizedComponent) and id(module) not in inside:
            raise changed(path, "is not in the model that the bridge runs")
        if acting_hooks(module) and type(module) not in POINTS:
            raise changed(path, "has a forward hook of torch's")
        if name := replaced_function(module):
            raise changed(path, f"has a {name} of its own")


def hooked_points(bridge: TransformerBridge) -> list[str]:
    """Names of the hook points with hooks that act on a run, TransformerLens's or PyTorch's own."""
    known = {id(point): name for name, point in sorted(bridge.hook_dict.items(), reverse=True)}
    points = ((path, point) for path, point in _running(bridge) if isinstance(point, TransformerLensHookPoint))
    return sorted(
        known.get(id(point), path) for path, point in points if point._forward_hooks or point._forward_pre_hooks
    )


def _running(bridge: TransformerBridge) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of all that takes part in a run of the bridge, and of the text tower."""
    roots = [(name, child) for name, child in bridge.named_children() if name != STATE_ALONE]
    met: set[nn.Module] = set()
    for root, top in [*roots, ("original_model", bridge.original_model)]:
        for path, module in top.named_modules(memo=met, prefix=root):
            yield plain_name(path), module
            for _, name, kept in _kept_by(module):
                yield f"{path}.{name}", kept


def _kept_by(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Modules that a component runs and that are no children of it, since their hook points are its own."""
    for name in ("_norm", "_pool"):
        if isinstance(kept := vars(module).get(name), nn.Module):
            yield module, name, kept


def _state_of(bridge: TransformerBridge) -> tuple[Any, ...]:
    original: Any = bridge.original_model
    driver = driver_of(bridge)
    config = vars(original.vision_model.config)
    return (
        type(bridge),
        *(tuple(vars(owner)[table].values()) for owner in (bridge, original) for table in TABLES),
        *(vars(owner).get(name) for owner in (bridge, original, driver) if owner is not None for name in RUNS),
        *(driver, original),
        *(config.get(name) for name in READ_OF_CONFIG),
    )


def _are_the_same(table: Mapping[str, Tensor | None], before: tuple[Tensor | None, ...]) -> bool:
    return len(table) == len(before) and all(map(is_, table.values(), before))
