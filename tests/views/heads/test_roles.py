"""Pages and figures of roles show what was found, and what a pool holds stays text."""

from __future__ import annotations

import html
import re

import pytest

from clip_lens_plugin import TextPool, head_roles, role_growth
from clip_lens_plugin.views.heads.head_grids import role_grid_view
from tests.roles.planted import HEAD, THEME, planted, random_model

MARKUP = "<b>$x</b>"


@pytest.fixture(scope="module")
def world():
    model = random_model()
    parts, pool, embeddings = planted(model)
    pool = TextPool(pool.texts, [MARKUP if theme == THEME else theme for theme in pool.themes])
    return model, parts, pool, embeddings


def test_roles_stand_in_the_grid_and_the_table(world):
    model, parts, pool, embeddings = world
    found = head_roles(
        model, parts, pool, heads=[(2, h) for h in range(4)], text_embeddings=embeddings, n_nulls=19, n_bootstraps=2
    )
    view = found.view()
    own = found[HEAD]
    assert view.body.count("<tr>") == 5
    assert "&lt;b&gt;$x&lt;/b&gt;" in view.body
    assert MARKUP not in view.body
    assert f"{100 * own.explained:.1f}" in view.body
    assert f"{len(found.with_role)} of 4 heads have a role" in view.body
    section = role_grid_view(found).body
    for each in found:
        (cell,) = re.findall(rf'<td title="layer {each.layer}, head {each.head}: [^"]*"[^>]*>(.*?)</td>', section)
        assert html.unescape(re.sub("<[^>]*>.*", "", cell)).strip() == each.role
    assert section.count("<tr>") == 5 + 2
    grid, _, beside = view.figure().axes
    cells = [each.get_text() for each in grid.texts]
    assert len(cells) == 4
    assert sum(MARKUP[:5] in each.replace("\n", "") for each in cells) >= 1
    dots = [line.get_xdata()[0] for line in beside.lines if line.get_marker() == "o"]
    assert dots == pytest.approx([each.explained for each in sorted(found, key=lambda each: -each.variance_share)])


def test_growth_has_a_line_for_each_pool(world):
    model, parts, pool, embeddings = world
    asked = {"heads": [HEAD], "text_embeddings": embeddings, "n_nulls": 19, "n_bootstraps": 0}
    found = role_growth(model, parts, pool, [10, 60], **asked, repeats=1)
    view = found.view()
    assert view.body.count("<tr>") == 5
    share, explained = view.figure().axes
    assert [len(line.get_xdata()) for line in share.lines] == [2, 2, 2, 2]
    means = found[found["pool"] == "own"].groupby("texts")["explained"].mean()
    assert explained.lines[0].get_ydata().tolist() == pytest.approx((100 * means).tolist())
