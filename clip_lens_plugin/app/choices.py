"""What pages ask beside picture and texts: each a component, by name, and the part of the state that it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.neurons.neurons import usual_layer
from clip_lens_plugin.app.state import State


@dataclass(frozen=True)
class Choice:
    """A component.

    Attributes:
        made: the component.
        stated: the part of the state of the component's value.
        shown: the component's value of a state; ``gr.skip()`` to leave it as it is.
    """

    made: Callable[[Explored], Any]
    stated: Callable[[Any], dict[str, Any]]
    shown: Callable[[State, Explored], Any]


def heads(explored: Explored) -> list[str]:
    """Every head by name."""
    cfg = explored.model.cfg
    return [f"L{layer}H{head}" for layer in range(cfg.n_layers) for head in range(cfg.n_heads)]


def parts(explored: Explored) -> list[str]:
    """Layers, MLPs and heads by name."""
    layers = range(explored.model.cfg.n_layers)
    return [*(f"L{layer}" for layer in layers), *(f"M{layer}" for layer in layers), *heads(explored)]


def _off(explored: Explored) -> Any:
    label = "Off: heads (L5H3), all heads of a layer (L5), MLPs (M5)"
    return gr.Dropdown(parts(explored), multiselect=True, label=label, elem_id="off")


def _shown_off(state: State, explored: Explored) -> list[str]:
    known = set(parts(explored))
    return [part for part in state.off if part in known]


def _ablation(explored: Explored) -> Any:
    return gr.Radio([("their means", "mean"), ("zero", "zero")], value="mean", label="In their place")


def _heads(explored: Explored) -> Any:
    every = heads(explored)
    return gr.Dropdown(every, value=[every[-1]], multiselect=True, label="Heads, together", elem_id="heads")


def _shown_heads(state: State, explored: Explored) -> Any:
    known = set(heads(explored))
    return [head for head in state.heads if head in known] or gr.skip()


def _like(explored: Explored) -> Any:
    return gr.Radio([("the picture", "picture"), ("the first text", "text")], value="picture", label="Like")


def _opened(explored: Explored) -> Any:
    every = [("none, the grid alone", ""), *((head, head) for head in heads(explored))]
    return gr.Dropdown(every, value="", label="Open a head", elem_id="opened")


def _shown_opened(state: State, explored: Explored) -> str:
    known = set(heads(explored))
    return next((head for head in state.heads if head in known), "")


def _by(explored: Explored) -> Any:
    cue = "what tells classes apart" if explored.effects is None else "cue of the groups"
    every = [("share of the embedding", "share"), ("role", "role"), (cue, "cue")]
    return gr.Radio(every, value="share", label="Heads by", elem_id="by")


def _neuron(explored: Explored) -> Any:
    label = "Neurons: all of a layer (L4), or one (L4N100)"
    return gr.Textbox(f"L{usual_layer(explored)}", label=label, max_lines=1, elem_id="neuron")


CHOICES = {
    "off": Choice(_off, lambda value: {"off": tuple(value or ())}, _shown_off),
    "ablation": Choice(_ablation, lambda value: {"ablation": value}, lambda state, explored: state.ablation),
    "by": Choice(_by, lambda value: {"by": value}, lambda state, explored: state.by),
    "opened": Choice(_opened, lambda value: {"heads": (value,) if value else ()}, _shown_opened),
    "neuron": Choice(
        _neuron,
        lambda value: {"neuron": (value or "").strip().upper()},
        lambda state, explored: state.neuron or gr.skip(),
    ),
    "heads": Choice(_heads, lambda value: {"heads": tuple(value or ())}, _shown_heads),
    "like": Choice(_like, lambda value: {"like": value}, lambda state, explored: state.like),
}
"""By the name that a page gives."""
