"""How the explorer's pages stand in a browser: what is chosen above, one tab for each page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr
from markupsafe import Markup

from clip_lens_plugin.app.asked import AskedPictures
from clip_lens_plugin.app.choices import CHOICES
from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.frame import framed, note, working
from clip_lens_plugin.app.long_work import Working
from clip_lens_plugin.app.page import Question
from clip_lens_plugin.app.pages import PAGES
from clip_lens_plugin.app.python import script
from clip_lens_plugin.app.server.opened import uploaded
from clip_lens_plugin.app.server.temporary import new_folder
from clip_lens_plugin.app.state import State, texts_of
from clip_lens_plugin.images.photographs import Photograph
from clip_lens_plugin.plain_text import how_many, printable
from clip_lens_plugin.views.drawing.encoding import picture_uri
from clip_lens_plugin.views.report.summaries import table

IN_GALLERY, AT_ONCE = 60, 3
"""Pictures that are shown, and answers that are worked on at once; a model runs for one at a time."""

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""The answers of a page are no interface for programs."""

ASKED_BY_LINK = """() => {
  const given = new URLSearchParams(location.search);
  const tab = [...given.keys()].some((name) => !name.startsWith('__')) && (given.get('tab') || 'FIRST');
  const ask = (tries) => {
    const button = document.getElementById(`ask-${tab}`);
    if (button && button.offsetParent) button.click();
    else if (tries) setTimeout(ask, 100, tries - 1);
  };
  if (tab) ask(100);
}""".replace("FIRST", State.tab)
"""A page that is opened by a link is answered at once; its button is there as soon as its tab is drawn.

A link leaves the first page's name out. Names that begin with two underscores are Gradio's own.
"""

SAVED_AS = (".html", ".png", ".svg", ".pdf", ".csv")


class Held:
    """A value of one browser. Gradio hashes what it keeps, to see a change; this is hashed as itself."""

    def __init__(self, value: Any) -> None:
        self.value = value


@dataclass(frozen=True, eq=False)
class Answered:
    """What a tab shows.

    Attributes:
        result: that a file is made of.
        given: what was chosen when it was asked.
    """

    result: Any
    given: tuple[Any, ...]


@dataclass
class Interface:
    """The pages on what is explored.

    Attributes:
        explored: the model and the data.
        texts: what is asked at first.
    """

    explored: Explored
    texts: tuple[str, ...]
    asked: AskedPictures = field(init=False)
    rows: list[int] = field(init=False)  # Whose pictures are in reach.

    def __post_init__(self) -> None:
        self.asked = AskedPictures(self.explored.model)
        self.rows = self.explored.in_reach(len(self.explored))

    def blocks(self) -> gr.Blocks:
        """The whole page."""
        cfg = self.explored.model.cfg
        with gr.Blocks(title="clip-lens explorer", analytics_enabled=False, fill_width=True) as page:
            gr.Markdown(f"# {printable(cfg.model_name)}: {how_many(len(self.explored), 'picture')}")
            sent = gr.State(None)
            with gr.Row():
                with gr.Column(scale=1, min_width=280):
                    shelf = gr.State(0)
                    gallery = gr.Gallery(
                        self._gallery(0),
                        label="Pictures",
                        columns=3,
                        height=240,
                        allow_preview=False,
                        interactive=False,
                        buttons=[],
                        object_fit="cover",
                        elem_id="gallery",
                    )
                    if len(self.rows) > IN_GALLERY:
                        self._turning(shelf, gallery)
                    row = gr.Number(0, label="Number of the picture", precision=0, minimum=0, elem_id="row")
                    upload = gr.UploadButton("Upload a picture", type="binary", file_types=["image"], elem_id="upload")
                with gr.Column(scale=2, min_width=280):
                    chosen = gr.HTML(elem_id="chosen")
                    typed = gr.Textbox(
                        "\n".join(self.texts), label="Texts, one per line", lines=4, max_lines=12, elem_id="texts"
                    )
            choices: dict[str, list[Any]] = {}
            with gr.Tabs() as tabs:
                for name, about in PAGES.items():
                    with gr.Tab(about.title, id=name):
                        gr.Markdown(about.about)
                        choices[name] = [CHOICES[choice].made(self.explored) for choice in about.choices]
                        self._tab(name, [row, sent, typed, *choices[name]])
            linked = [row, typed, tabs, *(each for page_choices in choices.values() for each in page_choices)]
            opened = page.load(self._of_link, None, linked, **PRIVATE)
            opened.then(None, js=ASKED_BY_LINK, **PRIVATE)
            self._choosing(opened, gallery, shelf, row, upload, sent, chosen)
        return page

    # ------------------------------------------------------------------ what is chosen

    def _gallery(self, shelf: int) -> list[tuple[Any, str]]:
        """The pictures of a shelf: as many as the gallery shows at once."""
        shown = self.explored.seen(self.rows[shelf * IN_GALLERY : (shelf + 1) * IN_GALLERY])
        return [(picture, self.explored.name(row)) for row, picture in shown.items()]

    def _turning(self, shelf: Any, gallery: Any) -> None:
        """Buttons to the shelves before and after, below the gallery."""
        last = (len(self.rows) - 1) // IN_GALLERY
        with gr.Row():
            earlier, later = gr.Button("Earlier", elem_id="earlier"), gr.Button("Later", elem_id="later")
        where = gr.HTML(self._where(0), elem_id="where")

        def turned(step: int, now: int) -> tuple[int, Any, str]:
            then = min(max(now + step, 0), last)
            return then, self._gallery(then) if then != now else gr.skip(), self._where(then)

        for button, step in ((earlier, -1), (later, 1)):
            button.click(partial(turned, step), shelf, [shelf, gallery, where], **PRIVATE)

    def _where(self, shelf: int) -> str:
        first, last = shelf * IN_GALLERY, min((shelf + 1) * IN_GALLERY, len(self.rows))
        return note(f"pictures {first + 1:,} to {last:,} of {len(self.rows):,}")

    def _choosing(self, opened: Any, gallery: Any, shelf: Any, row: Any, upload: Any, sent: Any, chosen: Any) -> None:
        """The picture above the tabs: one of the gallery, of a number, or one that is uploaded."""

        def of_gallery(now: int, event: gr.SelectData) -> tuple[int, None]:
            return self.rows[now * IN_GALLERY + event.index], None

        def of_upload(content: bytes) -> Held:
            try:
                return Held(uploaded(content))
            except ValueError as error:
                raise gr.Error(str(error), print_exception=False) from error

        def shown(number: int | None, own: Held | None) -> str:
            try:
                return _thumbnail(self._photograph(number, own))
            except ValueError as error:
                return note(str(error))

        gallery.select(of_gallery, shelf, [row, sent], **PRIVATE)
        row.input(lambda: None, None, sent, **PRIVATE)
        upload.upload(of_upload, upload, sent, **PRIVATE)
        for event in (opened.then, row.change, sent.change):
            event(shown, [row, sent], chosen, show_progress="hidden", **PRIVATE)

    def _of_link(self, request: gr.Request) -> tuple[Any, ...]:
        """Row, texts and tab of the address that was opened."""
        given = request.query_params
        named = {name: given.getlist(name) for name in given}
        state = State.of_query(named, tuple(PAGES))
        asked = [CHOICES[choice] for about in PAGES.values() for choice in about.choices]
        shown = [choice.shown(state, self.explored) for choice in asked]
        return state.image, "\n".join(state.texts or self.texts), gr.Tabs(selected=state.tab), *shown

    def _photograph(self, row: int | None, sent: Held | None) -> Photograph:
        if sent is not None:
            return sent.value
        self._refuse_no_row(row)
        return self.explored.photograph(int(row or 0))

    def _refuse_no_row(self, row: int | None) -> None:
        if row is None or int(row) not in range(len(self.explored)):
            raise ValueError(f"There is no picture {row}: they are numbered from 0 to {len(self.explored) - 1}.")

    # ------------------------------------------------------------------ a tab

    def _tab(self, page: str, inputs: list[Any]) -> None:
        result = gr.State(None)
        with gr.Row():
            ask = gr.Button("Show", variant="primary", elem_id=f"ask-{page}", scale=3)
            stop = gr.Button("Stop", elem_id=f"stop-{page}", scale=1)
        status = gr.HTML(elem_id=f"status-{page}")
        numbers, view = gr.HTML(elem_id=f"table-{page}"), gr.HTML(elem_id=f"view-{page}")
        with gr.Accordion("Copy as Python, link, save", open=False):
            python = gr.Code(language="python", label="Python", interactive=False, elem_id=f"python-{page}")
            link = gr.HTML(elem_id=f"link-{page}")
            with gr.Row():
                kind = gr.Radio(list(SAVED_AS), value=".html", label="As", scale=3)
                save = gr.Button("Make the file", scale=1)
            made = gr.File(label="File", interactive=False, elem_id=f"file-{page}")

        outputs = [status, numbers, view, python, link, result]
        asking = gr.on(
            [ask.click, *(each.submit for each in inputs if isinstance(each, gr.Textbox))],
            lambda *given: (yield from self._answered(page, *given)),  # pyright: ignore[reportReturnType]
            inputs,
            outputs,
            concurrency_id="answers",
            concurrency_limit=AT_ONCE,
            trigger_mode="always_last",  # Not to lose what was asked while an answer was still coming.
            **PRIVATE,
        )
        ended = stop.click(lambda: note("Stopped."), None, status, cancels=asking, **PRIVATE)
        gr.on(
            [each.change for each in inputs],
            _of_earlier,
            [result, *inputs],
            status,
            show_progress="hidden",
            **PRIVATE,
        )
        # Again, since a last note of how far it was may arrive behind the first.
        ended.then(lambda: note("Stopped."), None, status, **PRIVATE)
        save.click(self._saved, [result, kind], made, **PRIVATE)

    def _answered(
        self, page: str, row: int | None, sent: Held | None, typed: str, *chosen: Any
    ) -> Iterator[tuple[Any, ...]]:
        """How far it is, table, view, script, link and the result, for the components of a tab."""
        try:
            if sent is None:
                self._refuse_no_row(row)
            stated: dict[str, Any] = {}
            for choice, value in zip(PAGES[page].choices, chosen, strict=True):
                stated |= CHOICES[choice].stated(value)
            state = State(page, int(row or 0), texts_of(typed), **stated)
            number = None if sent is not None else state.image
            link = _link(state) if sent is None else note("An uploaded picture has no link: others do not have it.")
            question = Question(self.explored, lambda: self.asked.of(self._photograph(row, sent)), state, number)
            for answer in PAGES[page].answer(question):
                if isinstance(answer, Working):
                    yield working(answer), *[gr.skip()] * 5
                    continue
                header, *rows = answer.rows
                made = script(self.explored, state, sent is not None)
                numbers, view = str(table(header, rows)), framed(answer.views, answer.height)
                yield "", numbers, view, made, link, Held(Answered(answer.result, (row, sent, typed, *chosen)))
        except (ValueError, IndexError) as error:
            yield note(str(error)), "", "", "", "", None

    def _saved(self, result: Held | None, kind: str) -> str:
        if result is None:
            raise gr.Error("There is nothing to save: press Show first.", print_exception=False)
        if kind not in SAVED_AS:
            raise gr.Error(f"A file is one of {' '.join(SAVED_AS)}.", print_exception=False)
        return str(result.value.result.save(new_folder() / f"explorer{kind}"))


def _of_earlier(shown: Held | None, *given: Any) -> Any:
    """A note while what is shown is not of what is chosen now."""
    if shown is None:
        return gr.skip()
    return note("This is of what was chosen before: press Show.") if shown.value.given != given else ""


def _thumbnail(photograph: Photograph) -> str:
    picture = photograph.open()
    markup = Markup('<figure><img alt="" src="{}" style="max-height: 240px"><figcaption>{}</figcaption></figure>')
    return str(markup.format(picture_uri(picture, 320), printable(photograph.name)))


def _link(state: State) -> str:
    return str(Markup('<a href="?{}">Link to this page</a>').format(state.query()))
