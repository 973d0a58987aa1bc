"""What ``collect --neurons`` keeps and ``neurons`` writes, and what ends them in one line."""

from __future__ import annotations

import pandas as pd
import pytest

from clip_lens_plugin import ContributionStore, TextPool
from clip_lens_plugin.retrieval import strongest_neurons

pytestmark = pytest.mark.slow


def test_neurons_of_a_collection_in_words(tmp_path, run, refused):
    store = tmp_path / "store"
    made = run("collect", "--out", store, "--limit", 16, "--what", "moments", "--neurons", "4:0-19,2:3,4:30")
    assert made.exit_code == 0, made.stderr
    assert "22 neurons of layers 2, 4" in made.stderr
    assert "what neurons of layer 2, 4 do through later heads (neurons)" in made.stderr
    opened = ContributionStore.open(store)
    assert opened.neuron_moments(4).neurons.tolist() == [*range(20), 30]
    (tmp_path / "texts.txt").write_text("a red circle\na [blue] square\na navy background\n")
    options = ("--layer", -2, "--texts", tmp_path / "texts.txt", "--count", 3)
    result = run("neurons", store, *options, "--out", tmp_path / "table.csv")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(tmp_path / "table.csv")]
    assert "second order, patterns and statistics frozen" in result.stderr
    assert "a [blue] square" in result.stderr
    own = strongest_neurons(opened, 4, TextPool.from_file(tmp_path / "texts.txt"), 3).to_dataframe()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), own, check_exact=False, rtol=1e-6)
    assert all(str(neuron) in result.stderr for neuron in own["neuron"])
    page = run("neurons", store, *options, "--out", tmp_path / "page.html")
    assert page.exit_code == 0, page.stderr
    assert (tmp_path / "page.html").read_text().count("data:image") >= 8
    assert "not of layer 3. Collect into another place with --neurons 3" in refused("neurons", store, "--layer", 3)
    assert "must end in one of" in refused("neurons", store, "--layer", 4, "--out", tmp_path / "a.docx")
    assert "no pool of that name" in refused("neurons", store, "--layer", 4, "--texts", "nouns")


def test_mistakes_are_one_line_and_exit_code_2(tmp_path, refused, scenes_store):
    out = ("--out", tmp_path / "out")
    assert "as layers, 4,5, or as a layer with neurons" in refused("collect", *out, "--neurons", "four")
    assert "There is no layer 99: there are 6" in refused("collect", *out, "--neurons", "99")
    assert "There is no neuron 512: there are 512" in refused("collect", *out, "--neurons", "0:500-512")
    assert "There is no layer 99" in refused("neurons", scenes_store, "--layer", 99)
    assert "There is no folder" in refused("neurons", tmp_path / "missing", "--layer", 4)
    assert "holds moments of neurons of no layer" in refused("neurons", scenes_store, "--layer", 4)
