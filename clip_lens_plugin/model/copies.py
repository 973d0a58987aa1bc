"""Copies of a model, for this process, a file or another one: a hook that only this process knows cannot leave it."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from clip_lens_plugin.model.hooks.interventions import refuse_pickled_hooks
from clip_lens_plugin.model.protocol import Tower


class Copies(Tower):
    """A model that can be pickled while no function of this process alone is hooked on it."""

    def __getstate__(self) -> dict[str, Any]:
        """What ``pickle`` and ``torch.save`` keep.

        Raises:
            PicklingError: if a hook is on the model that no other process could be given; the message names it.
        """
        refuse_pickled_hooks(self)
        return vars(self)

    def __copy__(self) -> nn.Module:
        return self._with(vars(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        memo[id(self)] = twin = self._with({})
        twin.__setstate__(copy.deepcopy(vars(self), memo))
        return twin

    def _with(self, state: dict[str, Any]) -> nn.Module:
        twin = type(self).__new__(type(self))
        twin.__setstate__(state)
        return twin
