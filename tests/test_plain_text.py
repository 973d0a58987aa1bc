"""Text of users as it is shown: nothing in it acts, nothing hides, and what can be read stays."""

from __future__ import annotations

import csv
import os
import unicodedata

import pandas as pd
import pytest

from clip_lens_plugin.plain_text import how_many, one_line, printable, two_digits, write_csv

SIGNS = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
SIGNS |= set(range(0x13430, 0x13440))
"""Formats that are drawn: signs over numbers of Arabic and others, and those that arrange hieroglyphs."""


def test_nothing_that_acts_or_hides_is_left() -> None:
    for code in range(0x110000):
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp") and code not in SIGNS:
            shown = printable(f"a{chr(code)}b")
            assert shown.isascii() or "\ufffd" in shown, hex(code)
            assert shown.isprintable(), hex(code)
            assert len(shown) >= 3, hex(code)


@pytest.mark.parametrize(
    "text",
    [
        "a dog",
        "Größe, 日本\u3000語, \u00a0é",
        "e\u0301",
        "می\u200cخواهم",
        "👩\u200d🔬 ❤\ufe0f\u200d🔥",
        "क्\u200dष",
        "\\x1b",
    ],
)
def test_what_can_be_read_stays(text) -> None:
    assert printable(text) == text


def test_how_it_is_written_out() -> None:
    assert printable("a\x1b[2J\x9b31m\u202eb") == r"a\x1b[2J\x9b31m\u202eb"
    assert printable("x\u200dy\n\t\ud800\U000e0041") == r"x\u200dy\n\t\ud800\U000e0041"
    for raw in (b"caf\xe9.png", b"\xc3\xa9\xff\xfe\xc3", b"\xe2\x82"):
        assert printable(os.fsdecode(raw)) == raw.decode("utf-8", "replace")
    assert printable("x" * 1000, 10) == "x" * 9 + "…"
    assert one_line("a  reason\n\nof\tlines\x1b[0m ") == r"a reason of lines\x1b[0m"
    assert len(one_line("y\n" * 100_000, 50)) == 50


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "=\x1b[2J"])
def test_no_cell_is_run_by_a_spreadsheet(text, tmp_path) -> None:
    path = tmp_path / "table.csv"
    write_csv(pd.DataFrame({"text": [text, "a =1"], "score": [-0.5, 2.0], text: [None, "x"], "n": [-1, 2]}), path)
    with path.open(newline="", encoding="utf-8") as file:
        header, first, second = csv.reader(file)
    assert first[0] == header[2] == printable(f"'{text}")
    assert first[1:] == ["-0.5", "", "-1"]
    assert second == ["a =1", "2.0", "x", "2"]
    assert pd.read_csv(path)["score"].tolist() == [-0.5, 2.0]


def test_numbers_are_written_plainly() -> None:
    assert [how_many(n, "image") for n in (0, 1, 2, 1700)] == ["0 images", "1 image", "2 images", "1,700 images"]
    assert [two_digits(value) for value in (0.00174, 9.96, 17.4, 99.4, 99.6, 170.2, -170.2)] == [
        "0.0017",
        "10",
        "17",
        "99",
        "100",
        "170",
        "-170",
    ]
    assert two_digits(1700.0) == "1,700"
