"""Results that show themselves: in a notebook, as a page or a picture, and as a table.

What draws a result is named here and loaded when it is first shown, so that no analysis imports a view. Views import
the results that they draw, so an import of views here would be a circle: names stand in its place, in :data:`VIEWS`
and :data:`INLINE` alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar

import pandas as pd
from markupsafe import Markup

from clip_lens_plugin.files.whole import whole_files

VIEWS = {
    "AblationCurve": "clip_lens_plugin.views.results:ablation",
    "AttributionPatching": "clip_lens_plugin.views.results:attribution_patching",
    "ClassHeads": "clip_lens_plugin.views.results:class_heads",
    "Decision": "clip_lens_plugin.views.results:decision",
    "ExtremeImages": "clip_lens_plugin.views.results:extreme",
    "GroupEffects": "clip_lens_plugin.views.results:group_effects",
    "HeadPatching": "clip_lens_plugin.views.results:head_patching",
    "HeadRoles": "clip_lens_plugin.views.results:roles",
    "HeadSingularTexts": "clip_lens_plugin.views.results:sparse",
    "HeadSpan": "clip_lens_plugin.views.results:head_span",
    "HeadTextScores": "clip_lens_plugin.views.results:head_scores",
    "Interaction": "clip_lens_plugin.views.results:interaction",
    "LeadingTexts": "clip_lens_plugin.views.results:leading",
    "NearestImages": "clip_lens_plugin.views.results:nearest",
    "PatchTextMap": "clip_lens_plugin.views.results:maps",
    "RoleGrowth": "clip_lens_plugin.views.results:role_growth",
    "SaliencyMap": "clip_lens_plugin.views.results:saliency",
    "SegmentationScores": "clip_lens_plugin.views.results:segmentation",
    "Shares": "clip_lens_plugin.views.results:shares",
    "SparseText": "clip_lens_plugin.views.results:sparse",
    "SpuriousHeads": "clip_lens_plugin.views.results:spurious_heads",
    "StrongestNeurons": "clip_lens_plugin.views.results:neurons",
    "TextSpanCompleteness": "clip_lens_plugin.views.results:text_span_completeness",
    "TextSpanResult": "clip_lens_plugin.views.results:text_span",
    "Upstream": "clip_lens_plugin.views.results:upstream",
    "UpstreamTree": "clip_lens_plugin.views.results:upstream_tree",
}
"""The function that draws each kind of result: its first argument is the result, others are options of the view."""

INLINE = {
    "HeadSpan": "clip_lens_plugin.views.inline:head_texts_table",
    "TextSpanResult": "clip_lens_plugin.views.inline:text_span_table",
}
"""The function that gives the HTML of a notebook's output, where a view is too heavy to stand in every cell."""

TABLES = (".csv", ".parquet")
"""Endings of files that hold a result's table."""
PICTURES = (".png", ".svg", ".pdf")
DRAWN = (".html", *PICTURES)
"""Endings of files that show a result: of pictures, and of a page."""
MOST_ROWS, WIDEST = 20, 32
"""Of a table that is printed: rows, and letters of a column."""


class Tabled:
    """A result that shows itself in a notebook as its table, under what ``str`` says of it."""

    @abstractmethod
    def to_dataframe(self) -> pd.DataFrame:
        """The numbers as a table."""

    def _repr_html_(self) -> str:
        return self._table_under(str(self))

    def _table_under(self, words: str) -> str:
        """HTML of the words and, below them, of the table's first and last rows."""
        rows = pd.DataFrame(self.to_dataframe()).to_html(max_rows=MOST_ROWS, escape=True, index=False)
        return str(Markup("<p>{}</p>").format(words)) + rows


class Shown(Tabled):
    """A result that draws itself by the function that :data:`VIEWS` names for its class, or one it is derived from."""

    def view(self, **options: Any) -> Any:
        """What shows it in a notebook and saves as a page or a picture: a :class:`~clip_lens_plugin.views.View`.

        Args:
            options: those of the view function, see :data:`VIEWS`.

        Raises:
            ValueError: if it cannot be drawn as it is; the message says what is missing.
            TypeError: if it is of a class that neither has a view nor is derived from one that has.
        """
        draws = _named(VIEWS, self)
        if draws is None:
            raise TypeError(f"No view is known for {type(self).__name__}; those of {', '.join(VIEWS)} are.")
        return resolve_name(draws)(self, **options)

    def save(self, path: str | Path, **options: Any) -> Path:
        """Writes a page (.html), a picture (.png, .svg, .pdf) or the table (.csv, .parquet); returns the path.

        The file appears whole or not at all.

        Args:
            path: whose ending says what is written.
            options: of :meth:`view`.

        Raises:
            ValueError: for another ending, or if it cannot be drawn.
            OSError: if the file cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in (*DRAWN, *TABLES):
            raise ValueError(
                f"A result is saved as a page or a picture ({' '.join(DRAWN)}) or as its table ({' '.join(TABLES)}), "
                f"got {path}."
            )
        if suffix not in TABLES:
            return self.view(**options).save(path)
        with whole_files() as beside:
            table = self.to_dataframe()
            table.to_csv(beside(path), index=False) if suffix == ".csv" else table.to_parquet(beside(path))
        return Path(path)

    def _repr_html_(self) -> str:
        """The view, or a light form of it; or the table, under the reason why there is none."""
        return str(self._repr_mimebundle_()["text/html"])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        """HTML; of a view also its picture, for places that show no HTML, or none with scripts."""
        words, light = {"text/plain": repr(self)}, _named(INLINE, self)
        try:
            if light is None:
                return {**self.view()._repr_mimebundle_(), **words}
            return {"text/html": str(resolve_name(light)(self)), **words}
        except (ValueError, OSError) as error:
            return {"text/html": self._table_under(str(error)), **words}


def _named(names: Mapping[str, str], result: Shown) -> str | None:
    """What is named for the result's class, or for the nearest class that it is derived from."""
    return next((names[each.__name__] for each in type(result).__mro__ if each.__name__ in names), None)


class ResultTable(Shown, pd.DataFrame):
    """A table that draws itself. Parts of it, and what pandas makes of it, are plain tables.

    Attributes:
        printed: the columns that ``print`` shows, where there are more than fit a line.
    """

    printed: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        """The columns that matter; of a long table the first and the last rows."""
        shown = [name for name in self.columns if name in self.printed or not self.printed]
        with pd.option_context("display.max_colwidth", WIDEST):
            return pd.DataFrame(self)[shown].to_string(max_rows=MOST_ROWS)

    def to_dataframe(self) -> pd.DataFrame:
        """A plain table with the same rows."""
        return pd.DataFrame(self)
