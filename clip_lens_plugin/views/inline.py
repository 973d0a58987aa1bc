"""Texts of heads as a notebook shows them by itself: plain tables, without the 0.7 MB of script that explore them."""

from __future__ import annotations

from markupsafe import Markup

from clip_lens_plugin.describe.spans import HeadSpan, TextSpanResult
from clip_lens_plugin.views.drawing import scripts
from clip_lens_plugin.views.report.summaries import table

MOST_HEADS, TEXTS_A_HEAD = 48, 3
"""Heads that are shown, and texts of each."""


def text_span_table(result: TextSpanResult) -> Markup:
    """The first texts of each head, and what they and all of its texts explain, in per cent of its variance.

    Raises:
        ValueError: if the result has no head.
    """
    if not len(result):
        raise ValueError("The result holds no head; run text_span with one or more.")
    rows = []
    for span in list(result)[:MOST_HEADS]:
        n = min(TEXTS_A_HEAD, len(span.texts))
        texts = "; ".join(span.texts[:n]) or "no text: it writes the same for all images"
        shares = [_per_cent(span.explained_variance[at - 1]) if at else "" for at in (n, len(span.texts))]
        rows.append((str(span.layer), str(span.head), texts, shares[0], f"{shares[1]} by {len(span.texts)}"))
    left_out = len(result) - MOST_HEADS
    more = f" And {left_out} more heads, which to_dataframe() has." if left_out > 0 else ""
    header = ("layer", "head", "first texts", "they explain (%)", "all texts (%)")
    return _section(
        "Texts of heads", table(header, rows), f"Share of the head's variance.{more} To explore it: result.view()."
    )


def head_texts_table(span: HeadSpan) -> Markup:
    """One head's texts in the order picked, and what each adds to the explained variance, in per cent.

    Raises:
        ValueError: if the head has no text.
    """
    if not span.texts:
        raise ValueError(f"{span.method} found no text for layer {span.layer}, head {span.head}: it writes nothing.")
    title = f"Texts of layer {span.layer}, head {span.head}"
    return _section(title, head_texts_rows(span), "Of the head's variance.")


def head_texts_rows(span: HeadSpan) -> Markup:
    """The table alone."""
    before = [0.0, *span.explained_variance]
    rows = [
        (str(rank), text, _per_cent(so_far - before[rank - 1]), _per_cent(so_far))
        for rank, (text, so_far) in enumerate(zip(span.texts, span.explained_variance, strict=True), start=1)
    ]
    return table(("rank", "text", "explains (%)", "explained so far (%)"), rows)


def _per_cent(share: float) -> str:
    return f"{100 * share:.1f}"


def _section(title: str, body: Markup, note: str) -> Markup:
    section = Markup('<section class="clip-lens" aria-label="{}"><b>{}</b>{}<p class="cl-soft">{}</p></section>')
    return scripts.style() + section.format(title, title, body, note)
