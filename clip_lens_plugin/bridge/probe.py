"""One image through a bridge's own forward, and through what was made of its weights."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from clip_lens_plugin.adapters.checks.structure import SourceMismatchError
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.identity.verification import allowed, can_verify, first_parting, probe_image
from clip_lens_plugin.model.inputs.pixels import unlooked
from clip_lens_plugin.numerics.precision import full_precision


@torch.no_grad()
def refuse_other_embedding(bridge: TransformerBridge, hooked: HookedCLIP) -> None:
    """Does nothing if the bridge, on which no hooks are, gives the embedding of its :class:`HookedCLIP`.

    Raises:
        SourceMismatchError: if they differ by more than rounding, or the bridge does not run; the message names the
            first block at which the two streams part.
    """
    if not can_verify(hooked):
        return
    name, image = hooked.cfg.model_name, probe_image(hooked)
    blocks: Any = bridge.blocks
    with unlooked(), full_precision():  # Two runs that differ by rounding alone should differ by little.
        ours, theirs = hooked(image).double(), _embedding(bridge, image, name)
        if not bool(theirs.isfinite().all()):
            return
        same_shape = ours.shape == theirs.shape
        if same_shape and bool((ours - theirs).norm() <= allowed(hooked) * theirs.norm()):
            return
        parting = first_parting(hooked, image, list(blocks), lambda: bridge(image))
    how_much = f"by {float((ours - theirs).norm() / theirs.norm()):.1e} (relative)" if same_shape else "in shape"
    raise SourceMismatchError(
        f"{name}: what the bridge gives for an image differs {how_much} from what follows from its weights. The two "
        f"streams part first at {parting}. Something was changed on the bridge that is not in its weights: undo it, "
        f"or boot the bridge again."
    )


def _embedding(bridge: TransformerBridge, image: Float[Tensor, "1 3 height width"], name: str) -> Float[Tensor, "..."]:
    try:
        return bridge(image).double()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise SourceMismatchError(
            f"{name}: the bridge does not run on an image: {type(error).__name__}: {error}. Something was changed on "
            f"it: undo that, or boot the bridge again."
        ) from error
