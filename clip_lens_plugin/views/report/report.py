"""The report as one page of views that needs nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.files.whole import make_folder, whole_files
from clip_lens_plugin.report.results import Report
from clip_lens_plugin.views.decision import decision_view
from clip_lens_plugin.views.drawing import scripts
from clip_lens_plugin.views.drawing.templates import TEMPLATES, page_head
from clip_lens_plugin.views.drawing.thumbnails import Thumbnails
from clip_lens_plugin.views.gallery import gallery_body
from clip_lens_plugin.views.heads.classes import class_section
from clip_lens_plugin.views.heads.head_grids import role_grid_view
from clip_lens_plugin.views.heads.roles import role_names
from clip_lens_plugin.views.maps.patch_text import head_text_view
from clip_lens_plugin.views.report.answers import answers
from clip_lens_plugin.views.report.charts import accuracy_chart, head_grid, records
from clip_lens_plugin.views.report.summaries import ablation_table, head_table, layer_table, table

PAGE = "report.html"
GREY = (128, 128, 128)
"""In the place of a picture."""

FILES = {
    "layers": "share_mean and share_std of each layer's parts, as parts of 1 (not per cent)",
    "heads": "the same of each head",
    "text_span": "texts of each late head; explained_variance from 0 to 1, cumulative; total_variance in cosine²",
    "clarity": "what the first texts of each late head explain, and random directions in their place, from 0 to 1",
    "top_images": "images of each text; score in cosine, mean over the images removed",
    "class_heads": "eta_squared of each head for each question: the share of its variance between classes, from 0 to 1",
    "classes": "images of each class of each question, and the heads that move it farthest from the mean",
    "ablation": "accuracy from 0 to 1 and its difference from that of the whole model, with intervals",
    "heatmaps": "value of each patch through all heads, in cosine",
    "decisions": "what each head and patch adds to the gap between an image's two nearest classes, in cosine",
    "roles": "the role of each late head, and what its texts explain beside chance",
    "skipped": "files that were not used",
}


class InExplorer(NamedTuple):
    """Where the explorer shows the same: the title of its page, and the command line that opens it."""

    page: str
    command: str


InExplorerBySection = Mapping[str, Sequence[InExplorer]]
"""By the anchor of a section, for its first parts; by "" for the whole."""


@dataclass(frozen=True)
class Part:
    """A part of a section: its title, what it shows, and where the explorer shows the same, if that is known."""

    title: str
    body: Markup
    in_explorer: InExplorer | None = None


@dataclass(frozen=True)
class Section:
    """A folded part of the page: which words stand before it in the template, and its parts."""

    anchor: str
    heading: str
    parts: tuple[Part, ...]


def write_report(report: Report, out: str | Path, in_explorer: InExplorerBySection | None = None) -> Path:
    """Writes ``report.html`` and the tables into a folder, made if it is not there; returns the page's path.

    They appear together, once all of them are written: an earlier report stays until then.

    Args:
        report: what is drawn.
        out: the folder.
        in_explorer: command lines that open the same in the explorer, which stand in the page; none in one that is
            made in Python.

    Raises:
        OSError: if the folder cannot be written.
    """
    make_folder(out)
    page = Path(out) / PAGE
    text = render(report, in_explorer)
    with whole_files() as beside:
        report.write_tables(Path(out), beside)
        beside(page).write_text(text, encoding="utf-8")
    report.remove_other_tables(Path(out))
    return page


def render(report: Report, in_explorer: InExplorerBySection | None = None) -> str:
    """The page, see :func:`write_report`. Names and texts are escaped, so whatever they hold shows as text."""
    thumbnails = Thumbnails.of(report.top_images["image"].tolist(), _pictures(report))
    opened = in_explorer or {}
    return TEMPLATES.get_template("report.html.j2").render(
        report=report,
        about=report.provenance,
        answers=answers(report, thumbnails),
        sections=_sections(report, thumbnails, opened),
        whole=next(iter(opened.get("", ())), None),
        thumbnails=thumbnails.style,
        head=page_head(False, scripts.report_script_source()),
        script=scripts.report_script(),
        style=scripts.report_style(),
        skipped=_skipped(report),
        files=[(name, FILES[name]) for name in FILES if name in report.tables],
    )


def _sections(report: Report, thumbnails: Thumbnails, in_explorer: InExplorerBySection) -> list[Section]:
    roles = role_names(report.roles)
    heads = head_grid(report.heads, roles) + head_table(report.heads)
    texts = _texts(report, thumbnails, roles)
    classes = [(f"“{each.question}”", class_section(each.heads)) for each in report.explained]
    accuracy = (
        [("Accuracy", accuracy_chart(report.ablation) + ablation_table(report.ablation))]
        if len(report.ablation)
        else []
    )
    maps = [
        head_text_view(each.scores, each.picture, each.placement, name=report.names[each.image], light=True)
        for each in report.heatmaps
    ]
    decided = [
        decision_view(each.decision, each.picture, each.placement, name=report.names[each.image])
        for each in report.decisions
    ]
    every: list[tuple[str, str, list[tuple[str, Markup]]]] = [
        ("layers", "What each layer contributes", [("Layers", layer_table(report.layers))]),
        ("heads", "What each head contributes", [("Heads", heads)]),
        ("textspan", "Texts of the late heads", texts),
        (
            "roles",
            "Roles of the late heads",
            [] if report.roles is None else [("Roles", role_grid_view(report.roles).body)],
        ),
        ("classes", "What classes each head tells apart", classes),
        ("ablation", "Accuracy under mean ablation", accuracy),
        ("heatmaps", "Patch-text maps", [(view.title, view.body) for view in maps]),
        ("decisions", "Why this class and not the next", [(view.title, view.body) for view in decided]),
    ]
    found = []
    for anchor, heading, parts in every:
        opened = dict(enumerate(in_explorer.get(anchor, ())))
        shown = tuple(Part(title, body, opened.get(at)) for at, (title, body) in enumerate(parts))
        found += [Section(anchor, heading, shown)] if parts else []
    return found


def _texts(report: Report, thumbnails: Thumbnails, roles: Mapping[tuple[int, int], str]) -> list[tuple[str, Markup]]:
    images = report.top_images.rename(columns={"image": "row"})
    cards = gallery_body(list(report.spans), images, thumbnails, dict(enumerate(report.names)), roles)
    explained = ("How much the first texts explain, beside chance", _clarity_table(report, roles))
    return [explained, ("Texts and images of each head", cards)]


def _clarity_table(report: Report, roles: Mapping[tuple[int, int], str]) -> Markup:
    rows = [
        (
            f"{row['layer']:.0f}, head {row['head']:.0f}",
            f"{row['total_variance']:.2e}",
            f"{row['texts']:.0f}",
            f"{100 * row['explained']:.1f}",
            f"{100 * row['chance']:.1f}",
            "yes" if row["clear"] else "no",
            *([roles[row["layer"], row["head"]]] if roles else []),
        )
        for row in records(report.clarity)
    ]
    header = ("layer", "variance (cosine²)", "texts", "explained (%)", "random directions (%)", "clear")
    return table((*header, "role") if roles else header, rows)


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
