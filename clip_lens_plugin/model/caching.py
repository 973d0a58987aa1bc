"""Caches as TransformerLens makes them, without what nobody asked for and without views of more than they show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint
from transformer_lens.utilities.slice import Slice

from clip_lens_plugin.layers.attention_pool import is_of_query
from clip_lens_plugin.model.hook_names import ByHookName
from clip_lens_plugin.model.protocol import Tower

RESULT = "attn.hook_result"


class CachingModel(Tower):
    """A model whose full cache leaves ``hook_result`` out, a quarter of it or more, as TransformerLens does.

    It stays live: hooks on it run, and where one is, what it left is in the cache too.
    """

    def setup(self) -> None:
        """As in TransformerLens; a name that is not there is an error that says which are."""
        super().setup()
        names, told = tuple(self.hook_dict), f"{self.cfg.model_name} has no hook point"
        self.hook_dict = ByHookName(self.hook_dict, told, names)
        self.mod_dict = ByHookName(self.mod_dict, told, names)

    def set_use_attn_result(self, use_attn_result: bool) -> None:
        """Whether a cache without ``names_filter`` holds each head's ``hook_result`` [b, n, h, d]; not at first.

        TransformerLens's name. A ``names_filter`` that names it is always followed, and
        ``ActivationCache.stack_head_results`` computes what a cache lacks.
        """
        self.cfg.use_attn_result = bool(use_attn_result)

    def run_with_cache(  # type: ignore[override]
        self,
        *model_args: Any,
        return_cache_object: bool = True,
        remove_batch_dim: bool = False,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "b e"], ActivationCache | dict[str, Tensor]]:
        """As in TransformerLens: the embedding and an ``ActivationCache``, of ``names_filter``'s activations.

        Without ``names_filter`` that is all but ``hook_result``, see :meth:`set_use_attn_result`. Slices that
        ``pos_slice`` takes are copied, so that they do not keep the whole activations in memory.
        """
        embedding, cached = super().run_with_cache(*model_args, remove_batch_dim=remove_batch_dim, **kwargs)
        if not return_cache_object:
            return embedding, cached
        kept = ByHookName(cached, "The cache does not hold", self.hook_dict)
        return embedding, ActivationCache(kept, self, has_batch_dim=not remove_batch_dim)

    def get_caching_hooks(self, names_filter: Any = None, *args: Any, pos_slice: Any = None, **kwargs: Any):
        """As in TransformerLens, except that what ``pos_slice`` takes is a copy; an attention pool's query is whole."""
        wanted = self._in_full_cache if names_filter is None else names_filter
        self._refuse_unknown(names_filter)
        cache, forward, backward = super().get_caching_hooks(wanted, *args, pos_slice=pos_slice, **kwargs)
        if Slice.unwrap(pos_slice).mode != "identity":
            whole = dict(super().get_caching_hooks(wanted, *args, **{**kwargs, "cache": cache})[1])
            forward = [
                (name, whole[name] if is_of_query(name) else partial(_save_compact, save=save, cache=cache))
                for name, save in forward
            ]
        return cache, forward, backward

    def _refuse_unknown(self, names_filter: Any) -> None:
        """Raises HookNotFoundError if a name stands for no hook point: its cache would be empty without a word."""
        if names_filter is None or callable(names_filter):
            return
        for name in [names_filter] if isinstance(names_filter, str) else names_filter:
            self.hook_dict[name]

    def add_caching_hooks(self, names_filter: Any = None, *args: Any, **kwargs: Any) -> dict:
        """As in TransformerLens."""
        return super().add_caching_hooks(self._in_full_cache if names_filter is None else names_filter, *args, **kwargs)

    def _in_full_cache(self, name: str) -> bool:
        if not name.endswith(RESULT) or self.cfg.use_attn_result:
            return True
        # A hook there may have edited it, which no other activation of the heads shows.
        return self.hook_dict[name].has_hooks(dir="fwd")


def _save_compact(tensor: Tensor, hook: HookPoint, save: Callable[..., None], cache: dict[str, Tensor]) -> None:
    save(tensor, hook=hook)
    assert hook.name is not None
    cache[hook.name] = cache[hook.name].clone()
