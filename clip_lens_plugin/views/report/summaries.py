"""Views of summary tables: shares of layers and heads, ablation curves, variance that texts explain.

Their figures, and matplotlib, are loaded when one is drawn: a page of tables does without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import Markup

from clip_lens_plugin.decomposition.parts.extras import COMPONENTS
from clip_lens_plugin.plain_text import printable
from clip_lens_plugin.views.drawing.view import View, static

PARTS = {
    "embed": "patch embedding",
    "ln_bias": "last LayerNorm's bias",
    **{name: extra.words for name, extra in COMPONENTS.items()},
}
"""Parts outside the layers; after the first two those that only some families have."""

ROWS_LISTED = 40
LONGEST_NUMBER = 16
"""Characters of a cell, such as "+50.0 ± 2.0"; what is longer is words."""


def layer_view(layers: pd.DataFrame) -> View:
    """What each layer's heads, MLP and attention bias add to the embedding, in per cent of ‖M‖².

    Args:
        layers: columns part ("heads", "attn_bias", "mlp" and those of :data:`PARTS`), layer (none for these),
            share_mean and share_std over the images (parts of 1).
    """
    described = "Share of the embedding by layer and part; the table below has the numbers"

    def figure():
        from clip_lens_plugin.views.figures.summaries import layer_figure

        return layer_figure(layers)

    return View("What each layer contributes", static(figure, described) + layer_table(layers), figure)


def layer_table(layers: pd.DataFrame) -> Markup:
    """The table of :func:`layer_view`."""
    numbered = layers.dropna(subset="layer")
    rows = [_single(layers, "embed")]
    for layer in sorted(numbered["layer"].unique().tolist()):
        of_layer = numbered[numbered["layer"] == layer].set_index("part")
        whole = float(sum(of_layer["share_mean"]))
        parts = [_share(of_layer.loc[part]) for part in ("heads", "mlp", "attn_bias")]
        rows.append((str(layer), *parts, f"{100 * whole:+.1f}"))
    rows += [_single(layers, part) for part in PARTS if part != "embed" and part in set(layers["part"])]
    header = ("layer", "attention heads (%)", "MLP (%)", "attention bias (%)", "sum (%)")
    return table(header, rows)


def head_view(heads: pd.DataFrame) -> View:
    """Each head's mean share of the embedding, in per cent of ‖M‖²: a grid, and the greatest as a table.

    Args:
        heads: columns layer, head, share_mean, share_std (parts of 1).
    """
    described = "Mean share of each head, layers by heads; the table below has the numbers"

    def figure():
        from clip_lens_plugin.views.figures.summaries import head_figure

        return head_figure(heads)

    return View("What each head contributes", static(figure, described) + head_table(heads), figure)


def head_table(heads: pd.DataFrame) -> Markup:
    """The table of :func:`head_view`, folded."""
    greatest = heads.sort_values("share_mean", key=abs, ascending=False).head(ROWS_LISTED)
    rows = [
        (
            f"{row['layer']:.0f}",
            f"{row['head']:.0f}",
            f"{100 * row['share_mean']:+.2f}",
            f"{100 * row['share_std']:.2f}",
        )
        for row in greatest.to_dict("records")
    ]
    return Markup("<details><summary>The {} heads with the greatest share, as a table</summary>{}</details>").format(
        len(rows), table(("layer", "head", "mean share (%)", "std over images (%)"), rows)
    )


def ablation_view(curves: pd.DataFrame) -> View:
    """Zero-shot accuracy under ablation, in per cent: curves, other sets of components beside them, and a table.

    Args:
        curves: as :func:`~clip_lens_plugin.ablation.mean_ablation_curve` gives them, several of them one under the
            other; with a column question if they are of several questions.
    """
    described = "Accuracy against the number of ablated attention layers; the table below has the numbers"

    def figure():
        from clip_lens_plugin.views.figures.summaries import ablation_figure

        return ablation_figure(curves)

    return View("Accuracy under ablation", static(figure, described) + ablation_table(curves), figure)


def ablation_table(curves: pd.DataFrame) -> Markup:
    """The table of :func:`ablation_view`, folded."""
    return _accuracies(curves, {name: name for name in ("question", "ablation", "effect", "ablated")})


def text_span_completeness_view(found: pd.DataFrame) -> View:
    """Zero-shot accuracy, in per cent, with heads replaced by their projections on their first texts: curves, a table.

    Args:
        found: as :func:`~clip_lens_plugin.ablation.text_span_completeness` gives it, several of them one under the
            other; with a column question if they are of several questions, each of which has a panel.
    """
    described = "Accuracy against the number of texts per head, a line for each pool; the table below has the numbers"

    def figure():
        from clip_lens_plugin.views.figures.summaries import text_span_completeness_figure

        return text_span_completeness_figure(found)

    printed = found.assign(n_texts=[str(m) if m else "" for m in found["n_texts"]])
    listed = _accuracies(printed, {"question": "question", "pool": "pool", "n_texts": "texts per head"})
    return View("Accuracy with heads projected on their texts", static(figure, described) + listed, figure)


def _accuracies(measured: pd.DataFrame, columns: Mapping[str, str]) -> Markup:
    """Accuracies with their intervals as a table, folded, after those columns that there are."""
    there = {name: header for name, header in columns.items() if name in measured}
    rows = [
        (
            *(str(row[name]) for name in there),
            f"{100 * row['accuracy']:.1f}",
            f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
        )
        for row in measured.to_dict("records")
    ]
    return Markup("<details><summary>The numbers</summary>{}</details>").format(
        table((*there.values(), "accuracy (%)", "95 % interval"), rows)
    )


def explained_variance_view(texts: pd.DataFrame) -> View:
    """Share of each head's variance that its first texts explain, in per cent.

    Args:
        texts: columns layer, head, rank (from 1), text, explained_variance (cumulative part of 1).
    """
    last = texts.sort_values("rank").groupby(["layer", "head"]).tail(1).sort_values(["layer", "head"])
    rows = [
        (f"{row['layer']:.0f}", f"{row['head']:.0f}", f"{row['rank']:.0f}", f"{100 * row['explained_variance']:.1f}")
        for row in last.to_dict("records")
    ]
    listed = Markup("<details><summary>The numbers</summary>{}</details>").format(
        table(("layer", "head", "texts", "explained variance (%)"), rows)
    )

    def figure():
        from clip_lens_plugin.views.figures.summaries import explained_variance_figure

        return explained_variance_figure(texts)

    described = "Explained variance against the number of texts, one panel per layer"
    return View("How much of a head its texts explain", static(figure, described) + listed, figure)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A table, every cell made printable and escaped; words may break between lines, numbers do not."""
    wordy = [any(len(row[i]) > LONGEST_NUMBER for row in rows) for i in range(len(header))]
    heads = [Markup('<th scope="col">{}</th>'), Markup('<th scope="col" class="cl-words">{}</th>')]
    head = Markup().join(heads[words].format(printable(name)) for name, words in zip(header, wordy, strict=True))
    kinds = [Markup("<td>{}</td>"), Markup('<td class="cl-words">{}</td>')]
    cells = [
        Markup().join(kinds[words].format(printable(cell)) for cell, words in zip(row, wordy, strict=True))
        for row in rows
    ]
    lines = Markup().join(Markup("<tr>{}</tr>").format(row) for row in cells)
    return Markup(
        '<div class="cl-wide"><table class="cl-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(head, lines)


def _single(layers: pd.DataFrame, part: str) -> tuple[str, ...]:
    row = layers[layers["part"] == part].iloc[0]
    return (PARTS[part], "", "", "", _share(row))


def _share(row: pd.Series) -> str:
    return f"{100 * row['share_mean']:+.1f} ± {100 * row['share_std']:.1f}"
