"""The call that makes each view, for a script of the reader's own. Everything that was typed is written by ``repr``."""

from __future__ import annotations

from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.pages import PAGES
from clip_lens_plugin.app.state import State

UPLOADED = '"PICTURE"  # the one that was uploaded'


def script(explored: Explored, state: State, uploaded: bool) -> str:
    """What to run for the page of a state.

    Args:
        uploaded: whether the picture is no row of the data.
    """
    picture = UPLOADED if uploaded else explored.spelled.picture(state.image)
    return f"{explored.spelled.opening}\n{PAGES[state.tab].script(state, picture, explored.spelled)}\n"
