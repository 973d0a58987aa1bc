"""A pool of short texts, each with a theme."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jaxtyping import Float
from open_clip import IMAGENET_CLASSNAMES
from torch import Tensor

from clip_lens_plugin.arguments import checked_number, checked_texts
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.texts.embedding import embed_texts
from clip_lens_plugin.texts.templates import fill
from clip_lens_plugin.warned import warn

N_COMMON_WORDS = 10_000


@dataclass(frozen=True)
class TextPool:
    """Texts and their themes, row for row: ``TextPool(["a dog", "a cat"])``. Texts are different from each other.

    Without themes, all are of one that has no name.

    Attributes:
        texts: one or more.
        themes: of each text.

    Raises:
        ValueError: if there is no text, a text is blank or occurs twice, or the themes do not match.
    """

    texts: Sequence[str]
    themes: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(checked_texts("A text pool", self.texts)))
        object.__setattr__(self, "themes", tuple(self.themes) or ("",) * len(self.texts))
        if len(self.texts) != len(self.themes):
            raise ValueError(f"{len(self.texts)} texts need as many themes, got {len(self.themes)}.")
        seen: set[str] = set()
        for position, text in enumerate(self.texts):
            if not text.strip() or text in seen:
                what = "blank" if not text.strip() else "there already"
                raise ValueError(f"Text {position} of the pool, {text!r}, is {what}. Remove it.")
            seen.add(text)

    def __repr__(self) -> str:
        rest = f", and {len(self) - 3:,} more" if len(self) > 3 else ""
        return f"TextPool({len(self):,} texts: {', '.join(map(repr, self.texts[:3]))}{rest})"

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def from_strings(cls, texts: Iterable[str], theme: str = "") -> TextPool:
        """A pool of the given texts, all of one theme."""
        kept = tuple(checked_texts("A text pool", texts))
        return cls(kept, (theme,) * len(kept))

    @classmethod
    def from_file(cls, path: str | Path) -> TextPool:
        """A pool from the UTF-8 file ``path``: one text on each line, or ``theme<TAB>text``; blank lines are skipped.

        A text that occurs again, spaces around it aside, is left out; a Python warning says how many are.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not UTF-8 or has no text.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no text file {path}.")
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error
        rows = [line.split("\t", 1) if "\t" in line else ["", line] for line in lines if line.strip()]
        themes: dict[str, str] = {}
        again = []
        for theme, text in ((theme.strip(), text.strip()) for theme, text in rows):
            if text in themes:
                again.append(text)
            themes.setdefault(text, theme)
        if again:
            warn(
                f"{path} has {len(again)} texts that stand in it before, the first {again[0]!r:.60}; each is taken "
                f"once."
            )
        if not themes:
            raise ValueError(f"{path} holds no text: write one or more, each on a line of its own.")
        return cls(tuple(themes), tuple(themes.values()))

    @classmethod
    def general(cls) -> TextPool:
        """Over 3,000 short image descriptions written for this package, each with its theme."""
        return cls.from_file(_shipped("general.tsv"))

    @classmethod
    def common_words(cls, n: int = N_COMMON_WORDS) -> TextPool:
        """The n commonest of 10,000 English words, commonest first: a vocabulary for sparse codes, and a control.

        They are nouns, verbs and adjectives that WordNet 3.0 knows in lower case, one form of each: not "the", "dogs"
        or "quickly", no names, no fragments, nothing profane. Each, or a form of it, is one token of open_clip's
        vocabulary. The order is by the sum of two places: that of this token among the merges, and that of the word in
        SCOWL's sizes and WordNet's counts.

        3,221 have a theme, such as "animal", "food" or "colour": that of all their meanings in WordNet, or of nine in
        ten of at least ten tagged occurrences there. Of 200 drawn at random, seven are of another in everyday use
        ("thumbnail", as a part of the body). The theme of all others is "".

        COMMON_WORDS_LICENSES.txt, beside the list, has the licences of the sources; docs/generate/words.py in the
        repository makes the list.

        Source: Gandelsman, Efros and Steinhardt, ICLR 2024, figure 3, compares descriptions with as many common words:
        there n is 3,498.

        Raises:
            ValueError: if n is no whole number from 1 to 10,000.
        """
        n = checked_number("n", n)
        if n > N_COMMON_WORDS:
            raise ValueError(f"n must be at most {N_COMMON_WORDS:,}, as many common words as there are, got {n:,}.")
        pool = cls.from_file(_shipped("common_words.tsv"))
        return cls(pool.texts[:n], pool.themes[:n])

    @classmethod
    def scenes(cls) -> TextPool:
        """What can be said of a drawn scene in one or two attributes; the theme is their names."""
        from clip_lens_plugin.scenes.captions import short_captions

        captions = short_captions()
        return cls(tuple(captions), tuple(captions.values()))

    @classmethod
    def imagenet_classes(cls) -> TextPool:
        """open_clip's 1,000 ImageNet class names; one that occurs twice is kept once."""
        return cls.from_strings(dict.fromkeys(IMAGENET_CLASSNAMES), theme="imagenet")

    @takes_bridges
    def embed(
        self,
        model: ImageTextModel,
        template: str = "{}",
        on_progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> Float[Tensor, "t e"]:
        """Unit embeddings of the texts, in the model's dtype, read from disk where they were computed before.

        The key is made of what the text tower reads and the filled texts; see
        :func:`~clip_lens_plugin.texts.embedding.embed_texts`.

        Args:
            model: its text tower is used.
            template: a text with one "{}", for example "a photo of {}".
            on_progress: called with (texts done, texts in all).

        Raises:
            ValueError: if the template has no "{}", or the model has no tokenizer.
        """
        return embed_texts(model, [fill(template, text) for text in self.texts], on_progress)


def _shipped(name: str) -> Path:
    return Path(str(files("clip_lens_plugin") / "texts" / name))
