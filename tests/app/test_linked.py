"""What a page says that was opened by a link."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
import pytest
from starlette.datastructures import QueryParams

from clip_lens_plugin.app.interface import Interface
from clip_lens_plugin.app.pages import PAGES


@pytest.mark.parametrize(("number", "is_there"), [(23, True), (24, False), (999, False)])
def test_a_picture_that_is_not_there_is_said(explored, number, is_there) -> None:
    page = Interface(explored, ("a red circle",))
    request = gr.Request(request=SimpleNamespace(query_params=QueryParams(f"image={number}")))  # pyright: ignore[reportArgumentType]
    row, texts, *_ = page._of_link(request)
    assert (row, texts) == (number, "a red circle")
    if is_there:
        assert page._photograph(row, None).name == explored.name(number)
        return
    with pytest.raises(ValueError, match=f"There is no picture {number}: they are numbered from 0 to 23"):
        page._photograph(row, None)
    unused = [None] * len(PAGES["image"].choices)
    assert f"There is no picture {number}" in next(page._answered("image", row, None, texts, *unused))[0]
