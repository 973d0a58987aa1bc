"""What a report holds: tables, texts, maps and pictures, and how the tables are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from PIL import Image

from clip_lens_plugin.decisions.decision import Decision
from clip_lens_plugin.describe.class_result import ClassHeads
from clip_lens_plugin.describe.spans import TextSpanResult
from clip_lens_plugin.files.whole import whole_files
from clip_lens_plugin.maps.crop_geometry import Placement
from clip_lens_plugin.maps.patch_text import HeadTextScores
from clip_lens_plugin.report.provenance import ReportProvenance
from clip_lens_plugin.roles.result import HeadRoles

TABLES = {
    *("layers", "heads", "text_span", "clarity", "top_images", "class_heads", "classes"),
    *("ablation", "heatmaps", "decisions", "roles", "skipped"),
}
"""Names of the files, less ".parquet"."""


@dataclass(frozen=True)
class Heatmap:
    """What one image's patches add to its similarity to a few texts.

    Attributes:
        image: position of the image.
        scores: of every head and token, in cosine units.
        picture: the photograph, or what the model sees of it.
        placement: where on the photograph the model's input lies; None if the picture is that input.
    """

    image: int
    scores: HeadTextScores
    picture: Image.Image
    placement: Placement | None


@dataclass(frozen=True)
class Decided:
    """Why one image is taken for a class rather than for the next.

    Attributes:
        image: position of the image.
        question: what was asked.
        decision: between its two nearest classes.
        picture, placement: see :class:`Heatmap`.
    """

    image: int
    question: str
    decision: Decision
    picture: Image.Image
    placement: Placement | None


@dataclass(frozen=True)
class Explained:
    """How much of each head the classes of one question explain."""

    question: str
    heads: ClassHeads


@dataclass(frozen=True, repr=False)
class Report:
    """Numbers and pictures of one report. Shares are parts of ‖M(I)‖², averaged over the images.

    Attributes:
        provenance: what it was made of, with and when.
        names: of the images.
        completeness_error: greatest relative difference between the sum of the parts and the embedding.
        head_width: directions that one head can write in, at most.
        layers: part ("embed", "heads", "attn_bias", "mlp", "ln_bias", "pool_bias", "pool_mlp"), layer, share_mean,
            share_std.
        heads: layer, head, share_mean, share_std.
        text_span: layer, head, rank, text, explained_variance (cumulative share), total_variance (cosine²).
        spans: the texts of the late heads, as ``text_span`` has them in a table.
        clarity: what the first texts of each late head explain, beside chance, the clearest first; see
            :func:`~clip_lens_plugin.report.clearest.clarity`.
        top_images: layer, head, rank, text, side ("highest", "lowest"), place, image, name, score (cosine, mean over
            images removed).
        ablation: question, ablated, kind, layers, accuracy, low, high, difference (from nothing ablated) and its
            interval for pairs, ablation, effect, classes, scored, means_from; empty without labels.
        heatmaps: a few images' patch-text maps.
        skipped: name, reason.
        pictures: position of an image to the picture the model sees, for all images shown that there are pictures of.
        decisions: a few images' two nearest classes; none without classes or pictures.
        explained: how much of each head the classes of each question explain; none without labels.
        roles: of the late heads, beside chance; None where they were not asked for.
    """

    provenance: ReportProvenance
    names: tuple[str, ...]
    completeness_error: float
    head_width: int
    layers: pd.DataFrame
    heads: pd.DataFrame
    text_span: pd.DataFrame
    spans: TextSpanResult
    clarity: pd.DataFrame
    top_images: pd.DataFrame
    ablation: pd.DataFrame
    heatmaps: tuple[Heatmap, ...]
    skipped: pd.DataFrame
    pictures: dict[int, Image.Image]
    decisions: tuple[Decided, ...] = ()
    explained: tuple[Explained, ...] = ()
    roles: HeadRoles | None = None

    @property
    def n_without_picture(self) -> int:
        """How many of the images shown have no picture."""
        return len(set(self.top_images["image"]) - self.pictures.keys())

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables that hold something, by the name of their file.

        Maps as image, name, text, row, column, value; decisions as image, name, question, class, other and the columns
        of :meth:`Decision.to_dataframe`; class_heads and classes as question and the columns of
        :meth:`ClassHeads.to_dataframe` and :meth:`ClassHeads.by_class`; roles as :meth:`HeadRoles.to_dataframe`.
        """
        made = {"heatmaps": self._maps(), "decisions": self._decisions()}
        made["class_heads"] = self._by_question(ClassHeads.to_dataframe)
        made["classes"] = self._by_question(ClassHeads.by_class)
        made["roles"] = pd.DataFrame() if self.roles is None else self.roles.to_dataframe()
        every = {**{name: getattr(self, name) for name in TABLES - made.keys()}, **made}
        return {name: table for name, table in every.items() if len(table)}

    def save_tables(self, out: Path) -> None:
        """Writes one parquet file per table that holds something, and removes those of an earlier report."""
        with whole_files() as beside:
            self.write_tables(out, beside)
        self.remove_other_tables(out)

    def write_tables(self, out: Path, beside: Callable[[Path], Path]) -> None:
        """Writes the tables, put in place with other files.

        Args:
            out: the folder.
            beside: of :func:`~clip_lens_plugin.files.whole.whole_files`.
        """
        for name, table in self.tables.items():
            table.to_parquet(beside(out / f"{name}.parquet"), index=False)

    def remove_other_tables(self, out: Path) -> None:
        """Removes tables of an earlier report that this one has none of, which would be taken for its own."""
        for name in TABLES - self.tables.keys():
            (out / f"{name}.parquet").unlink(missing_ok=True)

    def _by_question(self, table: Callable[[ClassHeads], pd.DataFrame]) -> pd.DataFrame:
        found = [table(each.heads).assign(question=each.question) for each in self.explained]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    def _maps(self) -> pd.DataFrame:
        maps = [
            (each.image, self.names[each.image], text, row, column, float(value))
            for each in self.heatmaps
            for text, values in zip(each.scores.texts, each.scores.map().values[0], strict=True)
            for row, line in enumerate(values)
            for column, value in enumerate(line)
        ]
        return pd.DataFrame(maps, columns=["image", "name", "text", "row", "column", "value"])

    def _decisions(self) -> pd.DataFrame:
        found = []
        for each in self.decisions:
            (first, second), table = each.decision.texts, each.decision.to_dataframe()
            columns = {"name": self.names[each.image], "question": each.question, "class": first, "other": second}
            found.append(table.assign(image=each.image, **columns)[["image", *columns, *table.columns]])
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    def __repr__(self) -> str:
        about = self.provenance
        return f"Report({about.full_name!r}, {about.n_images:,} images: {about.dataset!r}, texts={about.texts!r})"
