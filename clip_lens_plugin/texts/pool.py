"""A pool of short texts, each with a theme, and their embeddings kept on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float
from open_clip import IMAGENET_CLASSNAMES
from platformdirs import user_cache_path
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from clip_lens_plugin.hooked_clip import HookedCLIP

CACHE_VARIABLE = "CLIP_LENS_CACHE"
"""Environment variable that names the folder of cached text embeddings; "" turns the cache off."""


@dataclass(frozen=True)
class TextPool:
    """Texts and their themes, row for row. Texts are different from each other.

    Raises:
        ValueError: if there is no text, a text is blank or occurs twice, or the themes do not match.
    """

    texts: tuple[str, ...]
    themes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts:
            raise ValueError("A text pool needs at least one text; none was given.")
        if len(self.texts) != len(self.themes):
            raise ValueError(f"{len(self.texts)} texts need as many themes, got {len(self.themes)}.")
        seen: set[str] = set()
        for position, text in enumerate(self.texts):
            if not text.strip() or text in seen:
                what = "blank" if not text.strip() else "there already"
                raise ValueError(f"Text {position} of the pool, {text!r}, is {what}. Remove it.")
            seen.add(text)

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def from_strings(cls, texts: Iterable[str], theme: str = "") -> TextPool:
        """A pool of the given texts, all of one theme."""
        if isinstance(texts, str):
            raise ValueError(f"A text pool takes a list of texts, got the one string {texts!r}.")
        kept = tuple(texts)
        return cls(kept, (theme,) * len(kept))

    @classmethod
    def from_file(cls, path: str | Path) -> TextPool:
        """A pool from a UTF-8 file with a text a line, or ``theme<TAB>text``; blank lines are skipped.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not UTF-8, has no text, or has one twice.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no text file {path}.")
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error
        rows = [line.split("\t", 1) if "\t" in line else ["", line] for line in lines if line.strip()]
        return cls(tuple(text.strip() for _, text in rows), tuple(theme.strip() for theme, _ in rows))

    @classmethod
    def general(cls) -> TextPool:
        """Over 3,000 short image descriptions written for this package, each with its theme."""
        return cls.from_file(Path(str(files("clip_lens_plugin") / "texts" / "general.tsv")))

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

    def embed(
        self,
        model: HookedCLIP,
        template: str = "{}",
        on_progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> Float[Tensor, "t e"]:
        """Unit embeddings of the texts, in the model's dtype, read from disk where they were computed before.

        The key is made of the text tower's weights, the texts and the template. The folder is the user's cache
        folder, or what :data:`CACHE_VARIABLE` names.

        Args:
            model: its text tower is used.
            template: a text with one "{}", for example "a photo of {}".
            on_progress: called with (texts done, texts in all) while they are computed.

        Raises:
            ValueError: if the template has no "{}", or the model has no tokenizer.
        """
        if "{}" not in template:
            raise ValueError(f"A template must hold '{{}}' where the text goes, got {template!r}.")
        folder = _cache_folder()
        key = self._key(model, template)
        file = folder / f"{key}.safetensors" if folder is not None else None
        if file is not None and file.is_file():
            try:
                return load_file(file)["embeddings"].to(model.cfg.device)
            except (SafetensorError, KeyError):
                file.unlink(missing_ok=True)
        filled = [template.replace("{}", text) for text in self.texts]
        embeddings = model.encode_text(filled, on_progress=on_progress)
        if file is not None:
            _save_quietly(embeddings, file)
        return embeddings

    def _key(self, model: HookedCLIP, template: str) -> str:
        digest = hashlib.sha256(repr((self.texts, template, str(model.cfg.dtype))).encode())
        digest.update(model.text_fingerprint().encode())
        return digest.hexdigest()[:32]


def _cache_folder() -> Path | None:
    named = os.environ.get(CACHE_VARIABLE)
    if named == "":
        return None
    return Path(named) if named else user_cache_path("clip_lens_plugin") / "texts"


def _save_quietly(embeddings: Tensor, file: Path) -> None:
    """A cache that cannot be written must not lose the embeddings."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        save_file({"embeddings": embeddings.detach().cpu().contiguous()}, partial)
        os.replace(partial, file)
    except OSError:
        return
