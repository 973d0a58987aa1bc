"""Roles of heads as layers by heads, beside chance; and how many have one as the pool grows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup

from clip_lens_plugin.roles.result import LARGEST_P, LEAST_MASS, LEAST_STABILITY, NONE, HeadRole, HeadRoles
from clip_lens_plugin.views.drawing.view import View, aside, static
from clip_lens_plugin.views.report.charts import records
from clip_lens_plugin.views.report.summaries import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROLES, GROWTH = "Roles of heads", "Heads with a role, and the size of the pool"
HEADER = (
    "layer",
    "head",
    "role",
    "first texts",
    "share of variance (%)",
    "explained (%)",
    "turned pools (%)",
    "family-wise p",
    "same covariance (%)",
    "p",
    "mass",
    "stability",
)


def roles_view(found: HeadRoles) -> View:
    """Layers by heads with the role of each, what its texts explain beside chance, and the numbers of every head.

    Args:
        found: see :func:`~clip_lens_plugin.roles.finding.head_roles`.
    """

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.heads.roles import roles_figure

        return roles_figure(found)

    described = "The role of each head, layers by heads; the table below has the numbers"
    return View(ROLES, roles_words(found) + static(figure, described) + roles_table(found, opened=True), figure)


def role_names(found: HeadRoles | None) -> dict[tuple[int, int], str]:
    """The role of each head that was looked at, "none" for one without; of no roles, no head."""
    return {(each.layer, each.head): each.role for each in found or ()}


def roles_table(found: HeadRoles, opened: bool) -> Markup:
    """The numbers of every head, folded or opened."""
    rows = [_row(each) for each in sorted(found, key=lambda each: -each.variance_share)]
    listed = Markup("<details{}><summary>Every head, that of the greatest variance first</summary>{}</details>")
    return listed.format(Markup(" open") if opened else "", table(HEADER, rows))


def role_growth_view(found: pd.DataFrame) -> View:
    """The share of heads with a role against the number of texts, and of as many that say nothing of the images.

    Args:
        found: see :func:`~clip_lens_plugin.roles.growth.role_growth`.
    """

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.heads.roles import role_growth_figure

        return role_growth_figure(found)

    means = pd.DataFrame(found.groupby(["texts", "pool"], as_index=False)[["share_with_role", "explained"]].mean())
    rows = [
        (f"{row['texts']:,}", row["pool"], _per_cent(row["share_with_role"]), _per_cent(row["explained"]))
        for row in records(means)
    ]
    header = ("texts", "pool", "heads with a role (%)", "explained (%)")
    listed = Markup("<details><summary>The numbers, means over repeats</summary>{}</details>").format(
        table(header, rows)
    )
    note = (
        "Pools drawn at random from all texts, and the same turned at random, which say nothing of the images: the "
        "share of the latter is that of false alarms. Explained: by the first texts, the mean over heads weighted by "
        "their variance."
    )
    described = "Share of heads with a role, and explained variance, against the number of texts"
    return View(GROWTH, aside(note) + static(figure, described) + listed, figure)


def roles_words(found: HeadRoles) -> Markup:
    """How many heads have a role, and what that needs."""
    n = len(found.with_role)
    return aside(
        f"{n} of {len(found)} heads have a role. {found.about}. A role needs a family-wise p of at most {LARGEST_P:g} "
        f"against the pool turned at random, a stability of at least {LEAST_STABILITY:g} where it is known, and a mass "
        f"of at least {LEAST_MASS:g}: so much of what its texts explain is of one theme. Mirrored pools, of the same "
        f"covariance, ask for more: that single texts lie along the head, and not the pool as a whole."
    )


def _row(each: HeadRole) -> tuple[str, ...]:
    turned, mirrored = each.turned, each.mirrored
    return (
        str(each.layer),
        str(each.head),
        f"none ({each.theme})" if each.role == NONE and each.theme else each.role,
        "; ".join(each.texts) or "no text: it writes the same for all images",
        _per_cent(each.variance_share),
        _per_cent(each.explained),
        *(_per_cent(turned.mean), _number(turned.family_p, 3)),
        *(_per_cent(mirrored.mean), _number(mirrored.p, 3)),
        _number(each.mass, 2),
        "unknown" if math.isnan(each.stability) else f"{each.stability:.2f}",
    )


def _per_cent(share: float) -> str:
    return _number(100 * share, 1)


def _number(value: float, places: int) -> str:
    return "" if math.isnan(value) else f"{value:.{places}f}"
