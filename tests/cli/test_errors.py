"""What ends a command says what is kept, and nothing that is not."""

from __future__ import annotations

import os
import signal

import pytest
import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.options import AGAIN
from clip_lens_plugin.hints import go_on, kept_so_far


@pytest.fixture(params=["Ctrl-C", "SIGTERM", "an error"])
def ended(request, capsys):
    """The line that a command ends in, and its exit code, for how it goes on."""

    def end() -> None:
        try:
            if request.param == "SIGTERM":
                os.kill(os.getpid(), signal.SIGTERM)
            raise OSError(f"Gone. {kept_so_far()}: {go_on()}") if request.param == "an error" else KeyboardInterrupt
        except BaseException as error:
            error.add_note("256 of 600 samples are kept")
            raise

    def run(how) -> tuple[int, str]:
        with pytest.raises(typer.Exit) as caught, one_line_ends(Console(stderr=True, highlight=False), how):
            end()
        return caught.value.exit_code, capsys.readouterr().err

    run.kind = request.param
    return run


def test_what_is_kept(ended):
    if ended.kind == "an error":
        said = f"clip-lens: Gone. What was collected so far is kept: {AGAIN}; 256 of 600 samples are kept\n"
        assert ended(AGAIN) == (2, said)
    else:
        assert ended(AGAIN) == (130, f"interrupted; 256 of 600 samples are kept; {AGAIN}\n")


def test_what_is_lost(ended):
    found = ended(lambda notes: "nothing was written")
    if ended.kind == "an error":
        assert found == (2, "clip-lens: Gone. Nothing is kept: run the same command again\n")
    else:
        assert found == (130, "interrupted; nothing was written\n")


def test_sentences_end_in_one_stop(capsys):
    error = ValueError("It is broken. Mend it.")
    error.add_note("nothing is kept")
    with pytest.raises(typer.Exit), one_line_ends(Console(stderr=True, highlight=False), AGAIN):
        raise error
    assert capsys.readouterr().err == "clip-lens: It is broken. Mend it; nothing is kept\n"
