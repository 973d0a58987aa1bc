"""The report as one page that needs nothing from outside: style and pictures are inside it."""

from __future__ import annotations

import base64
import io
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import pandas as pd
from PIL import Image

from clip_lens_plugin.views import plots

if TYPE_CHECKING:
    from clip_lens_plugin.report import Report

THUMBNAIL_SIDE = 96
HEADS_LISTED = 40
"""Rows of the table of heads; the parquet file has all of them."""

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("clip_lens_plugin.views"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_report(report: Report, out: str | Path) -> Path:
    """Writes ``report.html`` and the tables into a folder, made if it is not there; returns the page's path.

    Raises:
        OSError: if the folder cannot be written.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    report.save_tables(Path(out))
    page = Path(out) / "report.html"
    page.write_text(render(report), encoding="utf-8")
    return page


def render(report: Report) -> str:
    """The page. Names and texts are escaped, so whatever they hold shows as text."""
    shown = set(report.top_images["image"])
    return _TEMPLATES.get_template("report.html.j2").render(
        report=report,
        version=version("clip_lens_plugin"),
        layer_rows=_layer_rows(report.layers),
        head_rows=_head_rows(report.heads),
        n_heads=len(report.heads),
        head_grid=_uri(plots.head_grid(report.heads)),
        span_layers=_span_layers(report),
        thumbnails={i: _picture_uri(report.pictures[i], THUMBNAIL_SIDE) for i in sorted(shown)},
        ablation_rows=_ablation_rows(report.ablation),
        ablation_curves=_uri(plots.ablation_curves(report.ablation)) if len(report.ablation) else None,
        heatmaps=[
            {
                "name": report.names[each.image],
                "text": each.text,
                "cosine": each.cosine,
                "patches": float(each.values.sum()),
                "class_token": each.class_token,
                "greatest": float(each.values.abs().max()),
                "picture": _picture_uri(report.pictures[each.image], 320),
                "overlay": _picture_uri(plots.patch_overlay(report.pictures[each.image], each.values), 320),
            }
            for each in report.heatmaps
        ],
        colour_bar=_uri(plots.colour_bar("contribution, as a part of the full colour's")),
        skipped=report.skipped.to_dict("records"),
    )


def _layer_rows(layers: pd.DataFrame) -> list[dict]:
    """A row a layer with its parts side by side; the parts without a layer before and after."""

    def cell(part: str, layer: int | None) -> tuple[float, float]:
        at = layers["layer"].isna() if layer is None else (layers["layer"] == layer).fillna(False)
        row = layers[(layers["part"] == part) & at].iloc[0]
        return float(row["share_mean"]), float(row["share_std"])

    by_layer = [
        {
            "layer": l,
            "heads": cell("heads", l),
            "mlp": cell("mlp", l),
            "attn_bias": cell("attn_bias", l),
        }
        for l in sorted(layers["layer"].dropna().unique().tolist())
    ]
    single = {part: cell(part, None) for part in ("embed", "ln_bias")}
    first, last = ({"layer": part, "only": pair} for part, pair in single.items())
    return [first, *by_layer, last]


def _head_rows(heads: pd.DataFrame) -> list[dict]:
    rows = heads.sort_values("share_mean", key=abs, ascending=False).head(HEADS_LISTED)
    return rows.to_dict("records")


def _span_layers(report: Report) -> list[dict]:
    """Cards of heads by layer, the last layer first; in a layer, heads with the greatest variance first."""
    tops: dict[tuple, list[dict]] = {}
    for row in report.top_images.to_dict("records"):
        tops.setdefault((row["layer"], row["head"], row["rank"]), []).append(row)
    cards: dict[int, list[dict]] = {}
    for (layer, head), rows in report.text_span.groupby(["layer", "head"]):  # type: ignore[misc]
        texts, before = [], 0.0
        for row in rows.sort_values("rank").to_dict("records"):
            share = row["explained_variance"]
            images = tops.get((layer, head, row["rank"]), [])
            texts.append({"text": row["text"], "before": before, "share": share, "images": images})
            before = share
        total = float(rows["total_variance"].iloc[0])
        cards.setdefault(int(layer), []).append({"head": int(head), "total": total, "texts": texts})
    for group in cards.values():
        group.sort(key=lambda card: -card["total"])
    return [{"layer": layer, "cards": cards[layer]} for layer in sorted(cards, reverse=True)]


def _ablation_rows(ablation: pd.DataFrame) -> list[dict]:
    rows = []
    for question, table in ablation.groupby("question", sort=False):
        attention = table.query("kind == 'attention'").sort_values("layers")
        rows.append(
            {
                "question": str(question),
                "classes": int(table["classes"].iloc[0]),
                "scored": int(table["scored"].iloc[0]),
                "means_from": int(table["means_from"].iloc[0]),
                "nothing": float(table.loc[table["kind"] == "base", "accuracy"].iloc[0]),
                "half": float(attention["accuracy"].iloc[len(attention) // 2 - 1]),
                "attention": float(attention["accuracy"].iloc[-1]),
                "mlps": float(table.loc[table["kind"] == "mlps", "accuracy"].iloc[0]),
            }
        )
    return rows


def _picture_uri(picture: Image.Image, side: int) -> str:
    small = picture.copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return _uri(buffer.getvalue(), "jpeg")


def _uri(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
