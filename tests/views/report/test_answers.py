"""The first screen: its numbers are those of the tables, and it says what few images do not allow to say."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pandas as pd

from clip_lens_plugin.views.drawing.thumbnails import Thumbnails
from clip_lens_plugin.views.report.answers import (
    answers,
    clearest,
    equality,
    greatest_heads,
    greatest_parts,
    questions,
    reservations,
    whole_parts,
)


def test_shares_stand_beside_twice_their_standard_error(report):
    # 0.6 with a deviation of 0.1 over n of 26 images: 0.1 / 5 is the standard error.
    assert greatest_heads(report.heads, 26) == [
        ("0, head 0", "+60.0 ± 4.0", "10.0"),
        ("0, head 1", "-10.0 ± 8.0", "20.0"),
    ]
    assert [row[:2] for row in greatest_parts(report.layers, 26)] == [
        ("0, attention heads", "+50.0 ± 0.8"),
        ("0, MLP", "+30.0 ± 1.2"),
        ("0, attention bias", "+5.0 ± 0.0"),
    ]
    assert whole_parts(report.layers) == "Attention heads are 50 % of the embedding, MLPs 30 %, all else 20 %."


def test_clear_heads_come_with_texts_chance_and_images(report):
    first, second = clearest(report)
    assert (first["layer"], first["head"], first["chance"]) == (1, 1, 0.125)
    assert first["texts"] == [("blue", 0.25)]
    assert [image["row"] for image in second["images"]] == [1]
    body = answers(report, Thumbnails.of([0, 1], report.pictures))
    assert "random directions explain 12 %" in body
    none = answers(replace(report, clarity=report.clarity.assign(clear=False)), Thumbnails({}))
    assert "none is called clear" in " ".join(none.split())
    assert "random directions explain" not in none


def test_texts_that_are_left_out_are_counted(report):
    short = replace(report, clarity=report.clarity.assign(texts=1))
    assert [head["more"] for head in clearest(short)] == [0, 1]
    assert "and 1 more</a>" in answers(short, Thumbnails({}))


def test_ablating_costs_points_with_their_interval(report):
    asked = questions(report.ablation)
    assert asked["columns"] == ["MLPs", "attention, all layers"]
    (row,) = asked["rows"]
    assert (row["accuracy"], row["interval"], row["classes"], row["scored"]) == ("81", "75 to 88", 4, 16)
    assert row["costs"] == [("-6", "-25 to +12"), ("-50", "-75 to -25")]
    deep = report.ablation.assign(layers=[0, 2, 1])
    more = pd.concat([deep, deep[deep["kind"] == "attention"].assign(layers=6, difference=-1.0)])
    assert questions(more)["columns"] == ["MLPs", "attention, layers 0 to 1", "attention, all layers"]
    assert [cost for cost, _ in questions(more)["rows"][0]["costs"]] == ["-6", "-50", "-100"]
    assert questions(report.ablation.iloc[:0]) is None


def test_few_images_are_said_and_why(report):
    about_images, about_accuracy = reservations(report)
    assert "a head can write in 8 directions and they show at most 1 of them" in about_images
    # 1.96 standard deviations of a half over 16 images.
    assert "of 16 images is known to ±24 points at worst" in about_accuracy
    many = replace(report, names=("x",) * 9, ablation=report.ablation.assign(scored=100))
    assert reservations(many) == []
    assert re.findall(r'<p class="few">(.*?) are few', answers(report, Thumbnails({}))) == ["2 images"]


def test_equality_is_said_as_it_was_measured(report):
    assert equality(report).startswith("It equals its source: on one probe image")
    assert "to 1e-07 (up to 1e-05 is rounding in float32)" in equality(report)
    verified = replace(report.provenance.verified, relative_difference=math.nan)
    unknown = replace(report, provenance=replace(report.provenance, verified=verified))
    assert equality(unknown).startswith("Not compared with its source")
