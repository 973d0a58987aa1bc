"""The call that makes each view, for a script of the reader's own. Everything that was typed is written by ``repr``."""

from __future__ import annotations

from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.state import State, parts_of

UPLOADED = '"PICTURE"  # the one that was uploaded'


def script(explored: Explored, state: State, uploaded: bool) -> str:
    """What to run for the page of a state.

    Args:
        uploaded: whether the picture is no row of the data.
    """
    picture = UPLOADED if uploaded else explored.spelled.picture(state.image)
    body = {"image": _image, "why": _why, "off": _off, "search": _search}[state.tab](state, picture)
    return f"{explored.spelled.opening}\n{body}\n"


def _image(state: State, picture: str) -> str:
    return f"""from clip_lens_plugin.maps.patch_text import head_text_scores

picture = {picture}
head_text_scores(model, picture, {list(state.texts)!r}).view()"""


def _why(state: State, picture: str) -> str:
    a, b = (*state.texts, "", "")[:2]
    return f"""from clip_lens_plugin import explain

picture = {picture}
explain(model, picture, {a!r}, {b!r}, means=data).view()"""


def _search(state: State, picture: str) -> str:
    ((layer, number),) = parts_of((state.head,))[0]
    return f"""from clip_lens_plugin.retrieval import nearest_images

picture = {picture}
nearest_images(data, picture, {layer}, {number}, k=12).view()"""


def _off(state: State, picture: str) -> str:
    heads, layers, mlps = (sorted(each) for each in parts_of(state.off))
    sets = [f"Components.of_attention(model, {layers})"] if layers else []
    sets += [f"Components.of_heads(model, {heads})"] if heads else []
    sets += [f"Components.of_mlps(model, {mlps})"] if mlps else []
    return f"""from clip_lens_plugin import mean_ablation_curve
from clip_lens_plugin.ablation import Components

off = {" | ".join(sets)}
mean_ablation_curve(data, components=[off], ablation={state.ablation!r})"""
