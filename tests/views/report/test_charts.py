"""Charts of a page lie where their numbers say, and numbers stand out from their colour."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from clip_lens_plugin.views.report.charts import _shade, accuracy_chart, head_grid, layer_chart


def placed(body: str, kind: str) -> list[tuple[str, dict[str, float]]]:
    """Title and place, in per cent, of each mark of a kind."""
    found = re.findall(rf'<i class="{kind}" title="([^"]*)" style="([^"]*)"', body)
    return [(title, {name: float(at) for name, at in re.findall(r"(\w+):([\d.-]+)%", style)}) for title, style in found]


def test_bars_end_at_their_shares():
    rows = [("heads", 0, 0.3), ("mlp", 0, -0.1), ("heads", 1, 0.1), ("mlp", 1, 0.2)]
    body = layer_chart(pd.DataFrame(rows, columns=["part", "layer", "share_mean"]))
    bars = dict([*placed(body, "heads"), *placed(body, "mlp")])
    ends = {title: (bar["top"], bar["top"] + bar["height"]) for title, bar in bars.items()}
    assert ends["layer 0, attention heads: +30.0 %"] == pytest.approx((0, 75))
    assert ends["layer 0, MLP: -10.0 %"] == pytest.approx((75, 100))
    assert ends["layer 1, MLP: +20.0 %"] == pytest.approx((25, 75))
    across = sorted((bar["left"], bar["left"] + bar["width"]) for bar in bars.values())
    assert all(first[1] <= second[0] + 0.01 for first, second in pairwise(across))
    assert 'class="zero" style="top:75.00%"' in body


def test_heads_stand_by_layer_and_head_with_the_first_on_top():
    rows = [(layer, head, 0.01 * (10 * layer - 3 * head)) for layer in (1, 0) for head in range(3)]
    body = head_grid(pd.DataFrame(rows, columns=["layer", "head", "share_mean"]))
    assert re.findall(r"<td[^>]*>(.*?)</td>", body) == ["0.0", "-3.0", "-6.0", "10.0", "7.0", "4.0"]
    assert 'title="layer 1, head 2: +4.00 %"' in body


def test_a_head_tells_its_role():
    heads = pd.DataFrame([(0, 0, 0.1), (0, 1, 0.2)], columns=["layer", "head", "share_mean"])
    titles = re.findall(r'title="([^"]*)"', head_grid(heads, {(0, 1): "<b>"}))
    assert titles == ["layer 0, head 0: +10.00 %", "layer 0, head 1: +20.00 %; role: &lt;b&gt;"]


def test_numbers_stand_out_from_their_colour_and_signs_differ():
    for relative in np.linspace(-1, 1, 41):
        colour, ink = _shade(float(relative))
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        light = sum(
            weight * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
            for weight, c in ((0.2126, red), (0.7152, green), (0.0722, blue))
        )
        other = {"#000": 0.0, "#fff": 1.0}[ink]
        assert (max(light, other) + 0.05) / (min(light, other) + 0.05) > 4.5
        assert np.sign(red - blue) == np.sign(round(relative, 9))
    assert _shade(0.0)[0] == "#ffffff"
    assert _shade(1.0)[0] == "#e66101"
    assert _shade(-1.0)[0] == "#5e3c99"


def test_accuracy_lies_at_its_height_with_its_interval(report):
    other = report.ablation.assign(question="other", accuracy=0.5, low=0.25, high=1.0)
    body = accuracy_chart(pd.concat([report.ablation, other]))
    dots = dict(placed(body, "dot"))
    first = dots["&lt;i&gt;what&lt;/i&gt;, attention 0 ablated: 31.2 % (25.0 to 50.0)"]
    assert first["top"] == pytest.approx(68.75)
    beside = [dot["left"] for title, dot in dots.items() if "all MLPs ablated" in title]
    assert len(set(beside)) == 2
    assert min(beside) > first["left"] > dots["other, nothing ablated: 50.0 % (25.0 to 100.0)"]["left"] == 0
    assert len(re.findall("<polyline", body)) == 2
    ranges = re.findall(r'class="range" style="left:[\d.]+%;top:([\d.]+)%;height:([\d.]+)%', body)
    assert ranges[1] == ("50.00", "25.00")
    assert "<i>what</i>" not in body
