"""The roles of the late heads for a report, and whether its texts and heads allow any."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.bars import followed
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.roles.finding import checked_picks, head_roles
from clip_lens_plugin.roles.result import HeadRoles
from clip_lens_plugin.roles.themes import theme_codes
from clip_lens_plugin.texts.pool import TextPool


def refuse_without_roles(data: Data, pool: TextPool) -> None:
    """Raises ValueError if no text has a theme, or heads are too narrow; before the work that comes first."""
    theme_codes(pool.themes)
    checked_picks(None, data.readout.n_coordinates(data.constants))


def late_roles(
    model: HookedCLIP,
    data: Data,
    pool: TextPool,
    texts: Float[Tensor, "t e"],
    on_progress: Callable[[str, int, int], object],
) -> HeadRoles:
    """The role of each late head, beside chance: from a store's own moments, without a look at its rows.

    Args:
        model: of the data.
        data: as they were given.
        pool: with themes.
        texts: unit embeddings of the pool.
        on_progress: called with what is being done, steps done and steps in all.
    """

    def follow(what: str, done: float | int, total: float | int | None) -> None:
        if total is not None:
            on_progress(what, int(done), int(total))

    with followed(follow):
        return head_roles(model, data, pool, text_embeddings=texts)
