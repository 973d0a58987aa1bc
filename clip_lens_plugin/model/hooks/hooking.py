"""Hooks as TransformerLens puts them on: by one thread at a time, each point once, and never where none would run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from clip_lens_plugin.layers.inputs import OF_HEADS
from clip_lens_plugin.model.hooks.caching import RESULT, CachingModel
from clip_lens_plugin.model.hooks.hook_names import switched_off
from clip_lens_plugin.model.hooks.run_lock import RunLock
from clip_lens_plugin.model.inputs.image_tokens import refuse_width_for_positions

IN_ATTENTION = re.compile(rf"(blocks\.\d+)\.({'|'.join(OF_HEADS)})")


class Hooking(CachingModel):
    """A model with ``blocks`` whose inputs have hook points while a switch is on."""

    _run_lock: RunLock

    def alone(self) -> RunLock:
        """What a thread holds, with ``with``, while it runs the model or looks at its hooks."""
        return self._run_lock

    def setup(self) -> None:
        """As in TransformerLens. Inputs of heads are found under ``blocks.{l}.attn`` as well, as in its bridges."""
        super().setup()
        for name, point in list(self.hook_dict.items()):
            if found := IN_ATTENTION.fullmatch(name):
                alias = f"{found[1]}.attn.{found[2]}"
                self.hook_dict[alias] = self.mod_dict[alias] = point

    # ------------------------------------------------------------------ hooks

    @contextmanager
    def hooks(
        self, fwd_hooks: Iterable[Any] = (), bwd_hooks: Iterable[Any] = (), *args: Any, **kwargs: Any
    ) -> Iterator:
        """As in TransformerLens. Other threads' runs wait until the context ends: hooks are the model's.

        Args:
            fwd_hooks: pairs of a hook point's name, or a function of names, and a hook of activations.
            bwd_hooks: likewise, of gradients.
            args, kwargs: as in TransformerLens.

        Raises:
            SwitchedOffError: if a hook is for a point whose switch is off; the message names the switch.
        """
        with self._run_lock:
            forward, backward = self._each_point_once(fwd_hooks), self._each_point_once(bwd_hooks)
            with super().hooks(forward, backward, *args, **kwargs):
                yield self

    def add_hook(self, name: Any, hook: Any, *args: Any, **kwargs: Any) -> None:
        """As in TransformerLens; waits until no other thread runs the model. Raises as :meth:`hooks`.

        Args:
            name: of a hook point, or a function of names.
            hook: of its activations or gradients.
            args, kwargs: as in TransformerLens.
        """
        with self._run_lock:
            for point, _ in self._each_point_once([(name, hook)]):
                super().add_hook(point, hook, *args, **kwargs)

    def reset_hooks(self, *args: Any, **kwargs: Any) -> None:
        """As in TransformerLens, whose ``args`` and ``kwargs`` it takes; waits until no other thread runs the model."""
        with self._run_lock:
            super().reset_hooks(*args, **kwargs)

    def run_with_hooks(self, *model_args: Any, fwd_hooks: Iterable[Any] = (), **kwargs: Any) -> Any:
        """What the model gives for ``model_args`` under hooks, as in TransformerLens.

        Args:
            model_args: as for calling the model.
            fwd_hooks: see :meth:`hooks`.
            kwargs: as in TransformerLens.

        Raises:
            SwitchedOffError: as :meth:`hooks`.
            ValueError: if one of TransformerLens's patching functions counts an image's pixels as positions.
        """
        fwd_hooks = list(fwd_hooks)
        refuse_width_for_positions(self.cfg.n_ctx, model_args, fwd_hooks)
        return super().run_with_hooks(*model_args, fwd_hooks=fwd_hooks, **kwargs)

    def _each_point_once(self, hooks: Iterable[Any]) -> list[Any]:
        """The hooks by name, where functions of names stand for all points that they choose."""
        found = []
        for name, hook in hooks:
            if not callable(name):
                self._refuse_results(name)
                found.append((name, hook))
                continue
            chosen = {point.name: hook for each, point in self.hook_dict.items() if name(each)}
            found += [each for each in chosen.items() if not (self.results_are_off and str(each[0]).endswith(RESULT))]
            if not chosen and (off := switched_off(self.cfg, name)) is not None:
                raise off
        return found

    # ------------------------------------------------------------------ switches

    def set_use_attn_in(self, use_attn_in: bool) -> None:
        """Whether blocks have ``hook_attn_in`` [b, n, h, d]: each head's own copy of the stream before ``ln1``.

        TransformerLens's name. Off at first, and free while it is off or nobody listens. As in TransformerLens it
        excludes :meth:`set_use_split_qkv_input`.

        Args:
            use_attn_in: True for on.

        Raises:
            ValueError: if that is on.
        """
        self._switch("use_attn_in", use_attn_in, "use_split_qkv_input")

    def set_use_split_qkv_input(self, use_split_qkv_input: bool) -> None:
        """Whether blocks have ``hook_q_input``, ``hook_k_input`` and ``hook_v_input`` [b, n, h, d].

        Each is a copy of the stream before ``ln1`` for each head, of which its queries, keys or values are made: what
        path patching edits. TransformerLens's name. Off at first, and free while it is off or nobody listens.

        Args:
            use_split_qkv_input: True for on.

        Raises:
            ValueError: if :meth:`set_use_attn_in` is on.
        """
        self._switch("use_split_qkv_input", use_split_qkv_input, "use_attn_in")

    def set_use_hook_mlp_in(self, use_hook_mlp_in: bool) -> None:
        """Whether blocks have ``hook_mlp_in`` [b, n, d]: a copy of the stream before ``ln2``, for the MLP alone.

        TransformerLens's name. Off at first, and free while it is off or nobody listens.

        Args:
            use_hook_mlp_in: True for on.
        """
        self._switch("use_hook_mlp_in", use_hook_mlp_in)

    def _switch(self, name: str, on: bool, excludes: str | None = None) -> None:
        if on and excludes is not None and getattr(self.cfg, excludes):
            raise ValueError(f"{name} and {excludes} exclude each other: call model.set_{excludes}(False) first.")
        with self._run_lock:
            setattr(self.cfg, name, bool(on))
            for block in self.blocks:
                block.switch(name, bool(on))
            self.setup()
