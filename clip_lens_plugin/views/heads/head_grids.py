"""Every head of a model on a grid, coloured by its share of the embedding, by its role, or by what classes explain."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup

from clip_lens_plugin.decomposition.parts.component_shares import Shares
from clip_lens_plugin.describe.class_result import ClassHeads
from clip_lens_plugin.roles.result import NONE, HeadRole, HeadRoles
from clip_lens_plugin.views.drawing.colours import LINE_STYLES, rgb
from clip_lens_plugin.views.drawing.view import View, aside
from clip_lens_plugin.views.heads.classes import TITLE, class_heads_view, class_section
from clip_lens_plugin.views.heads.roles import ROLES, roles_table, roles_words
from clip_lens_plugin.views.report.charts import Cell, cell_grid, head_grid
from clip_lens_plugin.views.report.summaries import head_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = "What each head adds to the embedding"
TINT = 0.5
"""How much of a role's colour is in its cells; the rest is white, so that black letters stand out."""

PLAIN, OTHERS = ("#ffffff", "#565b64"), ("#d5d8de", "#000000")
"""Cell and letters of heads without a role, and of roles for which there is no colour left."""


def share_grid_view(found: Shares, n: int) -> View:
    """Each head's mean share of the embedding's squared length.

    Args:
        found: of all components.
        n: images.
    """
    heads = pd.DataFrame(found[found["part"] == "head"])
    whole = 100 * sum(heads["share_mean"].tolist())
    about = (
        f"c · M / ‖M‖² in per cent, the mean over {n:,} images: how much of the squared length of the embedding M is "
        f"what the head adds, c. Below zero it points away. All heads together: {whole:+.1f} %; embedding, MLPs and "
        f"constants are the rest of 100 %."
    )

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.summaries import head_figure

        return head_figure(heads)

    return View(SHARES, aside(about) + head_grid(heads) + head_table(heads), figure)


def role_grid_view(found: HeadRoles) -> View:
    """Each head's role, or "none", over its family-wise p."""
    colours = role_colours(found)
    cells = {(each.layer, each.head): _role_cell(each, colours) for each in found}
    counted = Counter(each.role for each in found)
    key = Markup().join(
        Markup('<li><i style="background:{}"></i>{}: {}</li>').format(colours.get(role, OTHERS)[0], role, n)
        for role, n in sorted(counted.items(), key=lambda each: (each[0] == NONE, -each[1]))
    )
    chance = (
        f"In each cell the family-wise p: how often the same search in a pool turned at random explains as much of any "
        f"of the {len(found)} heads. If no text said anything of any head, one head or more would still get a role in "
        f"one case of twenty, at most."
    )

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.heads.roles import roles_figure

        return roles_figure(found)

    grid = cell_grid(cells, "Role of each head") + Markup('<ul class="cl-grid-key">{}</ul>').format(key)
    return View(ROLES, roles_words(found) + aside(chance) + grid + roles_table(found, opened=False), figure)


def class_grid_view(found: ClassHeads) -> View:
    """How much of each head's variance the classes explain, beside what labels that say nothing would.

    Raises:
        ValueError: if no head varies over the images.
    """
    known = found.eta_squared.isfinite()
    chance = f"By chance the classes explain {100 * float(found.chance[known].mean()):.1f} % of a head on the average"
    if found.permutations:
        most = 100 * float(found.chance_most[known].max())
        chance += f"; the most that permuted labels explained of any head is {most:.1f} %"
    section = class_section(found)
    return View(TITLE, aside(f"{chance}.") + section, class_heads_view(found).figure)


def role_colours(found: HeadRoles) -> dict[str, tuple[str, str]]:
    """The colours of a cell and its letters for each role, as far as colours go: commonest roles first."""
    roles = [role for role, _ in Counter(each.role for each in found.with_role).most_common()]
    tints = (_tint(colour) for colour, _ in LINE_STYLES)
    return {NONE: PLAIN, **{role: (tint, "#000000") for role, tint in zip(roles, tints, strict=False)}}


def _role_cell(each: HeadRole, colours: dict[str, tuple[str, str]]) -> Cell:
    p = "" if math.isnan(each.turned.family_p) else f"p {each.turned.family_p:.3f}"
    measured = f"explained {100 * each.explained:.0f} %, by chance {100 * each.turned.mean:.0f} %, family-wise {p}"
    title = (
        f"layer {each.layer}, head {each.head}: {each.role}, {measured if p else 'it writes the same for all images'}"
    )
    return Cell(each.role, title, *colours.get(each.role, OTHERS), under=p)


def _tint(colour: str) -> str:
    mixed = (round(255 + TINT * (each - 255)) for each in rgb(colour))
    return "#" + "".join(f"{each:02x}" for each in mixed)
