"""Whether a source tower consists of exactly the modules whose weights the wrapper reads.

The wrapper reads weights and computes with them itself. What a subclass, a hook or a replaced forward adds would be
read past, and every number would be another model's. So whatever is not exactly as expected is refused by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from inspect import unwrap
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrize

from clip_lens_plugin.adapters.checks.expected import CHILDREN, NORMS, Kind, tower_kind
from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from clip_lens_plugin.dependencies.of_transformers import HOOKED_BY_ACCELERATE

LIBRARIES = ("torch", "open_clip", "timm", "transformers", "clip_lens_plugin")
"""Where the classes come from that a tower is expected to consist of."""

UNKNOWN = Kind("a module in an unknown place")
RUN_AS_THEY_ARE = ("ln_pre", "norm_pre", "pre_layrnorm", "q_norm", "k_norm", "ln_q", "ln_k")
"""Norms that the wrapper runs; of the others it reads weight and bias."""

RUNS = ("forward", "__call__", "_call_impl", "_wrapped_call_impl")
"""What of ``nn.Module`` itself takes part in a run; the rest (``train``, ``state_dict``, ...) may be anyone's."""

COLLECTING = "transformers.utils.output_capturing"
TENSORS = (nn.Parameter, Tensor, FakeTensor)

ADVICE = {
    "peft": "Merge the adapter into the weights first, model.merge_and_unload(), and wrap what that returns.",
    "loralib": "Merge the adapter into plain layers' weights, and load those into a plain model.",
    "clip": "It is of OpenAI's own package: load it by open_clip, HookedCLIP.from_pretrained('ViT-B-32', 'openai').",
    "accelerate": "Take its hooks off: accelerate.hooks.remove_hook_from_submodules(model).",
    "quantised": "Load the weights in float32, float16 or bfloat16.",
    "parametrised": "Make it part of the weight, torch.nn.utils.{}, or use torch.nn.utils.parametrizations.",
    "": "Put its effect into the weights of the plain module, or wrap the model without it.",
}
"""How to mend a tower, by what is in it."""

UNWRAP = {
    "DataParallel": "Give the model inside it, model.module.",
    "DistributedDataParallel": "Give the model inside it, model.module.",
    "FullyShardedDataParallel": "Gather its whole state dict, and give a plain model with it.",
    "OptimizedModule": "Give the model that was compiled, model._orig_mod.",
    "RecursiveScriptModule": "TorchScript has no modules to read: give a plain model with its state dict.",
    "ModifiedResNet": "CLIP ResNets have no residual stream of tokens and are not supported.",
}
"""What to do with a model that is none of the known ones, by its class."""

MULTIPLY = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)

PRE_HOOKS = {
    "WeightNorm": "remove_weight_norm(module)",
    "SpectralNorm": "remove_spectral_norm(module)",
    "BasePruningMethod": "prune.remove(module, name)",
}


class SourceMismatchError(UnsupportedTowerError):
    """The source model computes something else than what the wrapper reads of it."""


def refuse_foreign(tower: nn.Module, model_name: str, root: str = "visual") -> None:
    """Raises SourceMismatchError if a module is of a class, or a weight of a kind, from outside the known libraries.

    Args:
        root: the tower's name in its model.
    """
    for path, module, kind in _walk(root, tower, tower_kind()):
        base = base_class(module)
        if not kind.as_it_is and base.__module__.partition(".")[0] not in LIBRARIES:
            raise SourceMismatchError(
                f"{model_name}: {path} is a {title(base)}, whose forward the wrapper does not know: it would read the "
                f"weights and pass over the rest. {advice(base)}"
            )
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            plain = type(tensor) in TENSORS and (name in module._buffers or tensor.is_floating_point())
            if tensor is not None and not plain:
                raise SourceMismatchError(
                    f"{model_name}: {path}.{name} is a {title(type(tensor))} of {tensor.dtype}, expected a plain "
                    f"tensor of floating point numbers. {ADVICE['quantised']}"
                )


def refuse_other_structure(tower: nn.Module, model_name: str, root: str = "visual") -> None:
    """Raises SourceMismatchError if a module is not of the class expected in its place, or not as its class made it."""
    refuse_global_hooks(model_name)
    for path, module, kind in _walk(root, tower, tower_kind()):
        changed = alteration(module)
        if changed:
            raise SourceMismatchError(f"{model_name}: {path} {changed}")
        if not kind.as_it_is:
            _check_children(path, module, kind, model_name)


def refuse_mixed_dtypes(tower: nn.Module, model_name: str, root: str = "visual") -> None:
    """Raises SourceMismatchError if a layer that multiplies is in another dtype than most: no forward could run.

    Norms may be in float32 where all others are narrower, as open_clip has them.
    """
    held = {
        f"{root}.{path}.{name}": weight.dtype
        for path, module in tower.named_modules()
        if isinstance(module, MULTIPLY)
        for name, weight in module.named_parameters(recurse=False)
    }
    if len(set(held.values())) > 1:
        usual = Counter(held.values()).most_common(1)[0][0]
        name, other = next((name, dtype) for name, dtype in held.items() if dtype != usual)
        raise SourceMismatchError(
            f"{model_name}: {name} is in {other}, expected {usual}, the dtype of most of its tower: neither the source "
            f"nor the wrapper can multiply the two. Convert the whole tower: model.{root}.to({usual})."
        )


def base_class(module: nn.Module) -> type[nn.Module]:
    """The module's class; of one that ``torch.nn.utils.parametrize`` changed, the class that it had."""
    return plain_class(type(module))


def plain_class(kind: type) -> type:
    """The class that one made by ``torch.nn.utils.parametrize`` had before; any other one itself."""
    return kind.__mro__[1] if kind.__module__ == parametrize.__name__ else kind


def children_of(module: nn.Module) -> dict[str, nn.Module]:
    """The children by name, without those that ``torch.nn.utils.parametrize`` added."""
    return {name: child for name, child in module._modules.items() if child is not None and name != "parametrizations"}


def acting_hooks(module: nn.Module) -> list[tuple[str, Any]]:
    """PyTorch's hooks around the module's forward, each with its kind in words.

    Those with which Hugging Face's models collect what passes through their layers, or ask for gradients, change
    nothing and are left out.
    """
    pairs = [("forward", hook) for hook in module._forward_hooks.values()]
    pairs += [("forward-pre", hook) for hook in module._forward_pre_hooks.values()]
    return [(kind, hook) for kind, hook in pairs if not _changes_nothing(hook)]


def _changes_nothing(hook: Any) -> bool:
    of_inputs = getattr(hook, "__name__", "") == "make_inputs_require_grads"
    return getattr(hook, "__module__", None) == COLLECTING or of_inputs


def alteration(module: nn.Module) -> str | None:
    """What stands between a module's weights and what it computes, as the end of a sentence; None for nothing."""
    for kind, hook in acting_hooks(module):
        return f"has a {kind} hook, {_name_of(hook)}, which the wrapper would not run. {_hook_advice(hook)}"
    name = replaced_function(module)
    if name is not None:
        advice = ADVICE["accelerate"] if HOOKED_BY_ACCELERATE in module.__dict__ else ADVICE[""]
        return f"has its own {name} instead of its class's, which the wrapper would not run. {advice}"
    return None


def replaced_function(module: nn.Module) -> str | None:
    """Name of a function that an instance has of its own, in place of its class's; None where there is none.

    What ``module.compile()`` makes runs the class's own.
    """
    state = module.__dict__
    compiled = state.get("_compiled_call_impl")
    if compiled is not None and not _runs_the_same(compiled, module):
        return "_compiled_call_impl"
    own = (name for name in state if callable(getattr(type(module), name, None)))
    return next((name for name in own if name in RUNS or not hasattr(nn.Module, name)), None)


def _runs_the_same(compiled: Any, module: nn.Module) -> bool:
    return hasattr(compiled, "_torchdynamo_orig_callable") and unwrap(compiled) == module._call_impl


def refuse_global_hooks(model_name: str) -> None:
    """Raises SourceMismatchError if PyTorch's hooks for all modules are set."""
    for hooks in (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks):
        for hook in hooks.values():
            raise SourceMismatchError(
                f"{model_name}: a forward hook on all modules, {_name_of(hook)}, is set: the source would run it where "
                f"the wrapper does not. Remove it: handle.remove()."
            )


def _walk(path: str, module: nn.Module, kind: Kind) -> Iterator[tuple[str, nn.Module, Kind]]:
    """Name, module and kind of the module and of all below it."""
    yield path, module, kind
    for name, child in children_of(module).items():
        yield from _walk(f"{path}.{name}", child, _kind_of(module, kind, name) or UNKNOWN)


def _kind_of(module: nn.Module, kind: Kind, name: str) -> Kind | None:
    """What may stand in a child's place; None where there is no such place."""
    if kind.as_it_is:
        return kind
    places = CHILDREN.get(base_class(module)) or dict(kind.holds)
    return places.get(name) or kind.each


def _check_children(path: str, module: nn.Module, kind: Kind, model_name: str) -> None:
    children, base = children_of(module), base_class(module)
    order = [name for name, _ in kind.holds if name in children]
    if [name for name in children if name in order] != order:
        raise SourceMismatchError(f"{model_name}: {path} runs its parts in another order than {', '.join(order)}.")
    for name, child in children.items():
        wanted, found = _kind_of(module, kind, name), base_class(child)
        if wanted is None:
            raise SourceMismatchError(
                f"{model_name}: {path} holds {name!r}, a {title(found)}, which a {base.__name__} in this place does "
                f"not have: the wrapper would pass over it. {advice(found)}"
            )
        bare = found in NORMS and name not in RUN_AS_THEY_ARE and (child.weight is None or child.bias is None)
        if not wanted.as_it_is and bare:
            raise SourceMismatchError(f"{model_name}: {path}.{name} is a LayerNorm without weight or bias.")
        if not wanted.as_it_is and found not in wanted.classes:
            raise SourceMismatchError(
                f"{model_name}: {path}.{name} is a {title(found)}, expected {wanted.name} "
                f"({', '.join(each.__name__ for each in wanted.classes)}). {advice(found)}"
            )


def way_out(found: type) -> str:
    """What to do with a model of a class that is none of the known ones; "" where nothing is known."""
    return UNWRAP.get(found.__name__) or ADVICE.get(found.__module__.partition(".")[0], "")


def title(found: type) -> str:
    """The class and its module, in words."""
    return f"{found.__name__} of {found.__module__}"


def _name_of(hook: Any) -> str:
    return getattr(hook, "__qualname__", None) or type(hook).__name__


def advice(found: type) -> str:
    """How to mend a tower that holds a module of this class."""
    package = found.__module__.partition(".")[0]
    if package in ("torchao", "bitsandbytes") or "quant" in found.__module__:
        package = "quantised"
    return ADVICE.get(package, ADVICE[""])


def _hook_advice(hook: Any) -> str:
    for base in type(hook).__mro__:
        if base.__name__ in PRE_HOOKS:
            return ADVICE["parametrised"].format(PRE_HOOKS[base.__name__])
    return (
        "Remove it, handle.remove(), or put it on a hook point of the wrapped model: "
        "model.add_hook('blocks.0.hook_resid_post', hook)."
    )
