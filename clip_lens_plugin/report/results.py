"""What a report holds: tables, texts, maps and pictures, and how the tables are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from clip_lens_plugin.describe.spans import TextSpanResult
from clip_lens_plugin.files.whole import whole_files
from clip_lens_plugin.maps.crop_geometry import Placement
from clip_lens_plugin.maps.patch_text import HeadTextScores
from clip_lens_plugin.model.identity.verification import Verification


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
class Report:
    """Numbers and pictures of one report. Shares are parts of ‖M(I)‖², averaged over the images.

    Attributes:
        model_name, images_from, pool_name, pool_size: what it is about.
        names: of the images.
        completeness_error: greatest relative difference between the sum of the parts and the embedding.
        verified: the model's embedding beside the source's own, on a probe image.
        layers: part ("embed", "heads", "attn_bias", "mlp", "ln_bias", "pool_bias", "pool_mlp"), layer, share_mean,
            share_std.
        heads: layer, head, share_mean, share_std.
        text_span: layer, head, rank, text, explained_variance (cumulative share), total_variance (cosine²).
        spans: the texts of the late heads, as ``text_span`` has them in a table.
        top_images: layer, head, rank, text, side ("highest", "lowest"), place, image, name, score (cosine, mean over
            images removed).
        ablation: question, ablated, kind, layers, accuracy, low, high, ablation, effect, classes, scored, means_from.
        heatmaps: a few images' patch-text maps.
        skipped: name, reason.
        pictures: position of an image to the picture the model sees, for all images shown that there are pictures of.
    """

    model_name: str
    images_from: str
    pool_name: str
    pool_size: int
    names: tuple[str, ...]
    completeness_error: float
    verified: Verification
    layers: pd.DataFrame
    heads: pd.DataFrame
    text_span: pd.DataFrame
    spans: TextSpanResult
    top_images: pd.DataFrame
    ablation: pd.DataFrame
    heatmaps: tuple[Heatmap, ...]
    skipped: pd.DataFrame
    pictures: dict[int, Image.Image]

    @property
    def n_without_picture(self) -> int:
        """How many of the images shown have no picture."""
        return len(set(self.top_images["image"]) - self.pictures.keys())

    def save_tables(self, out: Path) -> None:
        """Writes one parquet file a table; heat maps as image, name, text, row, column, value."""
        with whole_files() as beside:
            self.write_tables(out, beside)

    def write_tables(self, out: Path, beside: Callable[[Path], Path]) -> None:
        """Writes what :meth:`save_tables` does, put in place with other files.

        Args:
            out: the folder.
            beside: of :func:`~clip_lens_plugin.files.whole.whole_files`.
        """
        maps = [
            (each.image, self.names[each.image], text, row, column, float(value))
            for each in self.heatmaps
            for text, values in zip(each.scores.texts, each.scores.map().values[0], strict=True)
            for row, line in enumerate(values)
            for column, value in enumerate(line)
        ]
        columns = ["image", "name", "text", "row", "column", "value"]
        pd.DataFrame(maps, columns=columns).to_parquet(beside(out / "heatmaps.parquet"), index=False)
        for name in ("layers", "heads", "text_span", "top_images", "ablation", "skipped"):
            getattr(self, name).to_parquet(beside(out / f"{name}.parquet"), index=False)
