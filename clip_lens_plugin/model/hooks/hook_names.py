"""What is looked up by the name of a hook point: an error for a name that is not there lists those that are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from clip_lens_plugin.layers.inputs import SWITCHES

V = TypeVar("V")


class HookNotFoundError(KeyError):
    """There is no hook point of that name, or the cache does not hold it; the message names what is near."""

    def __str__(self) -> str:
        return str(self.args[0])


class SwitchedOffError(HookNotFoundError, ValueError, AssertionError):
    """The hook point is there only while a switch is on; the message names the switch.

    TransformerLens's bridges raise a ValueError, its older models an AssertionError.
    """


class ByHookName(dict[str, V]):
    """A plain dictionary, but for its error where a name is not in it.

    Args:
        what: "the model has no hook point", or what else is true of a name that is not in it.
        known: names that there are in the model.
    """

    def __init__(self, given: Any, what: str, known: Iterable[str]) -> None:
        super().__init__(given)
        self.what, self.known = what, tuple(known)

    def __missing__(self, name: object) -> V:
        raise no_such_hook(name, self.what, self.known)

    def __reduce__(self) -> Any:
        return type(self), (dict(self), self.what, self.known)


def no_such_hook(name: object, what: str, known: Iterable[str]) -> HookNotFoundError:
    """The error for a name that is not there."""
    names = list(known)
    blocks = [int(found.group(1)) for found in (re.match(r"blocks\.(\d+)\.", each) for each in names) if found]
    asked = re.match(r"blocks\.(\d+)\.", str(name))
    switch = next((switch for switch, points in SWITCHES.items() if str(name).rpartition(".")[2] in points), None)
    if switch and asked and int(asked.group(1)) in blocks and str(name) not in names:
        return off(str(name), switch)
    if str(name) in names:
        rest = "It was not asked for, or its activation was dropped: name it in names_filter."
    elif blocks and asked and int(asked.group(1)) > max(blocks):
        rest = f"There are blocks 0 to {max(blocks)}."
    else:
        rest = f"The nearest of {len(names)} are {nearest(str(name), names, 3)}."
    return HookNotFoundError(f"{what} {str(name)!r}. {rest}")


def off(name: str, switch: str) -> SwitchedOffError:
    """The error for a hook point whose switch is off."""
    return SwitchedOffError(f"{name!r} is off, so no hook on it would run. Call model.set_{switch}(True) first.")


def switched_off(cfg: Any, chosen: Callable[[str], object]) -> SwitchedOffError | None:
    """The error for the first hook point that a function chooses and whose switch is off, if there is one."""
    layers = range(cfg.n_layers)
    for switch in (switch for switch in SWITCHES if not getattr(cfg, switch)):
        for point in SWITCHES[switch]:
            for name in (f"blocks.{l}.{part}{point}" for l in layers for part in ("", "attn.")):
                if chosen(name):
                    return off(name, switch)
    return None


def nothing_chosen(model_name: str, n_points: int) -> HookNotFoundError:
    """The error for a ``names_filter`` that chooses none of a model's hook points: its cache would be empty."""
    return HookNotFoundError(
        f"names_filter chooses none of {model_name}'s {n_points} hook points, which are hook_embed, "
        f"blocks.0.attn.hook_z and so on: model.hook_dict has them all."
    )


def nearest(name: str, known: Iterable[object], n: int) -> list[str]:
    """The ``n`` known names that are spelt most like ``name``."""
    return difflib.get_close_matches(name, [str(each) for each in known], n, cutoff=0.0)
