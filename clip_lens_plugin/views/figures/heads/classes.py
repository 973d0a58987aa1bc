"""A figure of how much of each head the classes explain."""

from __future__ import annotations

from matplotlib.figure import Figure

from clip_lens_plugin.describe.class_result import ClassHeads
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import MARGIN, SMALL, Sheet, text_height, wrapped
from clip_lens_plugin.views.figures.summaries import draw_grid, grid_height, grid_width


@plainly_lettered
def class_heads_figure(found: ClassHeads) -> Figure:
    """Layers by heads, coloured by η² in per cent, over a line that says what chance gives.

    Args:
        found: with a head that varies.
    """
    grid = 100 * found.grid().numpy()
    known = found.eta_squared.isfinite()
    chance = 100 * float(found.chance[known].mean())
    most = f", at most {100 * float(found.chance_most[known].max()):.1f} %" if found.permutations else ""
    width = grid_width(grid)
    about = f"{len(found.classes):,} classes, {found.n:,} images; by chance {chance:.1f} % of a head{most}."
    if len(found.layers) < found.n_layers:
        about += f" Layers {found.layers[0]} to {found.layers[-1]} alone; white rows were not looked at."
    heading = wrapped(about, width - 2 * MARGIN, SMALL)
    top = MARGIN + text_height(heading, SMALL) + 0.06
    sheet = Sheet(width, top + grid_height(grid))
    sheet.text(MARGIN, MARGIN, heading, SMALL)
    draw_grid(sheet, top, grid, "variance that the classes explain (%)", 0, signed_values=False)
    return sheet.figure
