"""Caches as TransformerLens makes them, without what nobody asked for and without views of more than they show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint
from transformer_lens.utilities.slice import Slice

from clip_lens_plugin.layers.inputs import OF_HEADS
from clip_lens_plugin.layers.pooling.attention_pool import is_of_query
from clip_lens_plugin.model.hooks.hook_names import ByHookName, nothing_chosen, off, switched_off
from clip_lens_plugin.model.inputs.image_tokens import pixels_of
from clip_lens_plugin.model.protocol import Tower

RESULT = "attn.hook_result"
Save = Callable[..., None]


class CachingModel(Tower):
    """A model whose full cache leaves ``hook_result`` out, a quarter of it or more, as TransformerLens does.

    It stays live: hooks on it run, and where one is, what it left is in the cache too.
    """

    _results_are_off = False

    def setup(self) -> None:
        """As in TransformerLens; a name that is not there is an error that says which are."""
        super().setup()
        names, refusal = tuple(self.hook_dict), f"{self.cfg.model_name} has no hook point"
        self.hook_dict = ByHookName(self.hook_dict, refusal, names)
        self.mod_dict = ByHookName(self.mod_dict, refusal, names)

    @property
    def results_are_off(self) -> bool:
        """Whether ``hook_result`` was switched off, and not merely never asked for."""
        return self._results_are_off

    def set_use_attn_result(self, use_attn_result: bool) -> None:
        """Whether a cache without ``names_filter`` holds each head's ``hook_result`` [b, n, h, d]; not at first.

        TransformerLens's name. Until it is called, a ``names_filter`` that names ``hook_result`` is followed and a hook
        on it runs, since it costs nothing before; once it is called with False, both are refused, as in
        TransformerLens. ``ActivationCache.stack_head_results`` computes what a cache lacks.

        Args:
            use_attn_result: True for on.
        """
        self.cfg.use_attn_result = bool(use_attn_result)
        self._results_are_off = not use_attn_result

    def run_with_cache(  # type: ignore[override]
        self,
        *model_args: Any,
        return_cache_object: bool = True,
        remove_batch_dim: bool = False,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "b *rest"] | None, ActivationCache | dict[str, Tensor]]:
        """As in TransformerLens: what the run gives (the embedding [b, e], if nothing else is asked for) and an
        ``ActivationCache``, of ``names_filter``'s activations.

        Without ``names_filter`` that is all but ``hook_result``, see :meth:`set_use_attn_result`. Slices that
        ``pos_slice`` takes are copied, so that they do not keep the whole activations in memory.

        Args:
            model_args: as for calling the model.
            return_cache_object: False for a dictionary in the place of the ``ActivationCache``.
            remove_batch_dim: drop the first axis; of a single image.
            kwargs: ``names_filter``, ``pos_slice`` and others, as in TransformerLens.

        Raises:
            HookNotFoundError: if a name, or all that ``names_filter`` chooses, stands for no hook point.
        """
        model_args = tuple(map(pixels_of, model_args))
        output, cached = super().run_with_cache(*model_args, remove_batch_dim=remove_batch_dim, **kwargs)
        if not return_cache_object:
            return output, cached
        kept = ByHookName(cached, "The cache does not hold", self.hook_dict)
        return output, ActivationCache(kept, self, has_batch_dim=not remove_batch_dim)

    def get_caching_hooks(self, names_filter: Any = None, *args: Any, pos_slice: Any = None, **kwargs: Any):
        """As in TransformerLens, except that what ``pos_slice`` takes is a copy; an attention pool's query is whole.

        An activation that has two names is kept under those that ``names_filter`` chooses, else under its own.
        ``args`` and ``kwargs`` are those of TransformerLens.
        """
        wanted = self._chosen(names_filter)
        cache, forward, backward = super().get_caching_hooks(wanted, *args, pos_slice=pos_slice, **kwargs)
        taken = Slice.unwrap(pos_slice)
        if taken.mode != "identity":
            _, *whole = super().get_caching_hooks(wanted, *args, **{**kwargs, "cache": cache})
            compact = [(name, partial(_save_compact, save=save, cache=cache)) for name, save in forward]
            forward, backward = (
                [(name, self._sliced(name, save, dict(saves)[name], taken)) for name, save in hooks]
                for hooks, saves in zip((compact, backward), whole, strict=True)
            )
        forward, backward = ([(name, self._named(name, save)) for name, save in hooks] for hooks in (forward, backward))
        return cache, forward, backward

    def _sliced(self, name: str, save: Save, whole: Save, taken: Slice) -> Save:
        """What saves the chosen positions of an activation, where TransformerLens's own would take something else."""
        if is_of_query(name):
            return whole
        if name.rpartition(".")[2] in OF_HEADS:  # TransformerLens takes their heads for positions.
            return lambda tensor, hook: whole(taken.apply(tensor, dim=1).clone(), hook=hook)
        return save

    def _named(self, name: str, save: Save) -> Save:
        """What saves an activation under this name, which may not be its hook point's own."""
        if name == self.hook_dict[name].name:
            return save
        return lambda tensor, hook: save(tensor, hook=SimpleNamespace(name=name))

    def add_caching_hooks(self, names_filter: Any = None, *args: Any, **kwargs: Any) -> dict:
        """As in TransformerLens, whose ``args`` and ``kwargs`` it takes; ``names_filter`` as for a cache."""
        return super().add_caching_hooks(self._chosen(names_filter), *args, **kwargs)

    def _chosen(self, names_filter: Any) -> Callable[[str], bool]:
        """Which names are cached.

        Raises:
            HookNotFoundError: if a name stands for no hook point, or a function chooses none: the cache would be empty
                without a word.
        """
        if names_filter is None:
            return self._in_full_cache
        if not callable(names_filter):
            names = frozenset([names_filter] if isinstance(names_filter, str) else names_filter)
            for name in names:
                self._refuse_results(name)
                self.hook_dict[name]
            return names.__contains__
        chosen = [name for name in self.hook_dict if names_filter(name)]
        if self.results_are_off:
            chosen = [name for name in chosen if not name.endswith(RESULT)]
        if not chosen:
            nothing = nothing_chosen(self.cfg.model_name, len(self.hook_dict))
            raise switched_off(self.cfg, names_filter) or nothing
        return frozenset(chosen).__contains__

    def _refuse_results(self, name: str) -> None:
        """Raises SwitchedOffError for the name of a ``hook_result`` that was switched off."""
        if self.results_are_off and str(name).endswith(RESULT) and name in self.hook_dict:
            raise off(name, "use_attn_result")

    def _in_full_cache(self, name: str) -> bool:
        if name != self.hook_dict[name].name:
            return False
        if not name.endswith(RESULT) or self.cfg.use_attn_result:
            return True
        # A hook there may have edited it, which no other activation of the heads shows.
        return self.hook_dict[name].has_hooks(dir="fwd")


def _save_compact(tensor: Tensor, hook: HookPoint, save: Callable[..., None], cache: dict[str, Tensor]) -> None:
    save(tensor, hook=hook)
    assert hook.name is not None
    cache[hook.name] = cache[hook.name].clone()
