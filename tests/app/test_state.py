"""Links give back the state that they were made of, and nothing that was not asked for."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from clip_lens_plugin.app.state import MOST_TEXTS, State, heads_of, parts_of, state_of_link, texts_of

TABS = ("image", "off")


def of_link(query: str) -> State:
    return State.of_query(parse_qs(query, keep_blank_values=True), TABS)


@pytest.mark.parametrize(
    "state",
    [
        State(),
        State(
            "off",
            7,
            ("a dog & a cat", "ein Hündchen?", "=x"),
            ("L5H3", "L2", "M11"),
            "zero",
            ("L1H2", "L0H3"),
            "cue",
            "text",
            "L3N17",
        ),
    ],
)
def test_a_link_gives_back_its_state(state: State) -> None:
    assert of_link(state.query()) == state


def test_what_is_as_usual_is_left_out() -> None:
    assert State().query() == ""
    assert State(texts=("a dog",)).query() == "text=a+dog"


@pytest.mark.parametrize(
    "query",
    [
        "tab=/etc/passwd",
        "tab=__class__",
        "image=-1",
        "image=1e3",
        "image=../../etc",
        "image=99999999999999",
        "off=L5H3x&off=../L5",
        "ablation=resample",
        "head=L5",
        "by=size&like=both",
        "neuron=N3",
        "path=/etc/passwd&store=/tmp",
        "text=&text=+",
    ],
)
def test_what_a_link_says_wrongly_is_as_usual(query: str) -> None:
    assert of_link(query) == State()


def test_a_link_that_was_typed_is_read_or_refused() -> None:
    state = State("off", 7, ("a dog & a cat",), ("L5H3", "L2"), "zero")
    assert state_of_link(state.query(), TABS) == state_of_link(f"?{state.query()}", TABS) == state
    assert state_of_link("tab=image&image=0", TABS) == state_of_link("", TABS) == State()
    for link, message in (
        ("tab=off&off=L5&off=H3", "off=H3"),
        ("tab=heads", "tab=heads: .* pages are image, off.$"),
        ("path=/etc/passwd", "path=/etc/passwd"),
        ("L5H3", "L5H3=:"),
    ):
        with pytest.raises(ValueError, match=f"does not say {message}"):
            state_of_link(link, TABS)


def test_links_are_bounded() -> None:
    state = of_link("&".join(f"text={'x' * 1000}{i}" for i in range(1000)))
    assert len(state.texts) <= MOST_TEXTS
    assert max(map(len, state.texts)) == 300


def test_texts_of_a_box() -> None:
    assert texts_of(" a dog \n\n a cat\na dog\n") == ("a dog", "a cat")
    for typed, message in (("", "Type a text"), ("\n \n", "Type a text"), ("x" * 301, "300 letters")):
        with pytest.raises(ValueError, match=message):
            texts_of(typed)
    with pytest.raises(ValueError, match="51 texts are too many"):
        texts_of("\n".join(map(str, range(51))))


def test_parts() -> None:
    assert parts_of(("L5H3", "L2", "M11", "L5H3")) == ({(5, 3)}, {2}, {11})
    with pytest.raises(ValueError, match="'X5' is no part"):
        parts_of(("X5",))


def test_heads() -> None:
    assert heads_of(State(heads=("L5H3", "L0H11"))) == [(5, 3), (0, 11)]
    with pytest.raises(ValueError, match="Choose a head"):
        heads_of(State())
    with pytest.raises(ValueError, match="L5, L5H3 are no heads"):
        heads_of(State(heads=("L5", "L5H3")))
