"""What is shown of one head beside other results: its texts beside chance, and where it attends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup

from clip_lens_plugin.describe.spans import HeadSpan
from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.maps.pictured import Pictured
from clip_lens_plugin.saliency.result import SaliencyMap
from clip_lens_plugin.views.drawing.crops import crop_box
from clip_lens_plugin.views.drawing.view import View
from clip_lens_plugin.views.inline import head_texts_rows
from clip_lens_plugin.views.maps.map_stills import Backdrop
from clip_lens_plugin.views.report.charts import records
from clip_lens_plugin.views.tables import head_texts_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def texts_beside_chance_view(span: HeadSpan, clarity: pd.DataFrame, n_texts: int) -> View:
    """A head's texts in the order picked, under what as many random directions would explain.

    Args:
        span: of the head.
        clarity: its row, see :func:`~clip_lens_plugin.report.clearest.clarity`.
        n_texts: of the pool.

    Raises:
        ValueError: if the head has no text.
    """
    plain = head_texts_view(span)
    (row,) = records(clarity)
    chance = Markup(
        '<p class="cl-soft">The first {} explain {} of the head\'s variance over the images. By chance, as many of {} '
        "random directions explain {} on the average, at most {}.</p>"
    ).format(
        row["texts"],
        _per_cent(row["explained"]),
        f"{n_texts:,}",
        _per_cent(row["chance"]),
        _per_cent(row["chance_most"]),
    )
    return View(plain.title, chance + head_texts_rows(span), plain.figure)


def head_attention_view(found: SaliencyMap, before: dict[str, float]) -> View:
    """Where a head attends, on the picture: from clear at 0 to full colour at the greatest patch.

    Args:
        found: the weight of each patch.
        before: that of each token before the patches, by its name.

    Raises:
        ValueError: if the picture is not known.
    """
    opened, placement = (found.pictured or Pictured()).placed(found.grid_size)
    picture = upright_rgb(opened)
    box = crop_box(picture, placement, found.grid_size, "nearest")
    values = found.values[0].detach().double().cpu().numpy()
    most = float(values.max())
    behind = Backdrop.of(picture, box, fades=True)
    drawn = behind.under(values / (most or 1.0), f"{found.title} in {found.name}")
    aside = "".join(f"; {name} {_per_cent(weight)}" for name, weight in before.items())
    summary = f"All patches {_per_cent(float(values.sum()))}, the greatest {_per_cent(most)}{aside}."
    note = (
        "What the embedding reads through the head: the share of its attention on each token, of the class token's row "
        "where there is one. Clear is 0, full colour the greatest patch."
    )
    body = Markup(
        '<p class="cl-soft">{}</p>{}<div class="cl-still"><figure>{}<figcaption>{}</figcaption></figure></div>'
    )
    title = f"{found.title} in {found.name}"

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.maps.saliency import saliency_figure

        return saliency_figure(found, picture, box, "nearest", title)

    return View(title, body.format(note, behind.style, drawn, summary), figure)


def _per_cent(share: float) -> str:
    return f"{100 * share:.1f} %"
