"""The report as one page of views that needs nothing from outside."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.files.whole import whole_files
from clip_lens_plugin.views.drawing.templates import TEMPLATES
from clip_lens_plugin.views.drawing.view import View, head_of
from clip_lens_plugin.views.gallery import head_gallery_view
from clip_lens_plugin.views.patch_text import head_text_view
from clip_lens_plugin.views.summaries import ablation_view, explained_variance_view, head_view, layer_view, table

if TYPE_CHECKING:
    from clip_lens_plugin.report.results import Report


PAGE = "report.html"
GREY = (128, 128, 128)
"""In the place of a picture."""


@dataclass(frozen=True)
class Section:
    """A heading, what there is to know before looking, and views."""

    anchor: str
    heading: str
    words: str
    views: tuple[View, ...]


def write_report(report: Report, out: str | Path) -> Path:
    """Writes ``report.html`` and the tables into a folder, made if it is not there; returns the page's path.

    They appear together, once all of them are written: an earlier report stays until then.

    Raises:
        OSError: if the folder cannot be written.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    page = Path(out) / PAGE
    text = render(report)
    with whole_files() as beside:
        report.write_tables(Path(out), beside)
        beside(page).write_text(text, encoding="utf-8")
    return page


def render(report: Report) -> str:
    """The page. Names and texts are escaped, so whatever they hold shows as text."""
    sections = _sections(report)
    return TEMPLATES.get_template("report.html.j2").render(
        report=report,
        version=version("clip_lens_plugin"),
        sections=sections,
        head=head_of([view for section in sections for view in section.views]),
        skipped=_skipped(report),
    )


def _sections(report: Report) -> list[Section]:
    found = [
        Section("layers", "What each layer contributes", "layers", (layer_view(report.layers),)),
        Section("heads", "What each head contributes", "heads", (head_view(report.heads),)),
        Section("textspan", "Texts of the late heads", "textspan", _text_views(report)),
    ]
    if len(report.ablation):
        found.append(Section("ablation", "Accuracy under mean ablation", "ablation", (ablation_view(report.ablation),)))
    maps = tuple(
        head_text_view(each.scores, each.picture, each.placement, name=report.names[each.image])
        for each in report.heatmaps
    )
    if maps:
        found.append(Section("heatmaps", "Patch-text maps", "heatmaps", maps))
    return found


def _text_views(report: Report) -> tuple[View, View]:
    images = report.top_images.rename(columns={"image": "row"})
    names = dict(enumerate(report.names))
    spans = list(report.spans)
    return head_gallery_view(spans, images, _pictures(report), names), explained_variance_view(report.text_span)


def _pictures(report: Report) -> dict[int, Image.Image] | None:
    """Of every image shown, grey where it was not in reach; None if none was."""
    if not report.pictures:
        return None
    grey = Image.new("RGB", next(iter(report.pictures.values())).size, GREY)
    return {int(i): report.pictures.get(int(i), grey) for i in report.top_images["image"]}


def _skipped(report: Report) -> Markup | None:
    if report.skipped.empty:
        return None
    return table(("file", "reason"), [(row["name"], row["reason"]) for row in report.skipped.to_dict("records")])
