"""The class and the cue of each image, from a table, and the texts of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clip_lens_plugin.collection.store import ContributionStore
    from clip_lens_plugin.groups.effects import GroupEffects
    from clip_lens_plugin.groups.grouping import Groups
    from clip_lens_plugin.model.hooked_clip import HookedCLIP
    from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

Pair = tuple[str, str]
CUE_COLUMN = "place"
GROUPS_HELP = (
    "CSV with a name, a class and a cue on each line, such as Waterbirds' metadata.csv, or the folder of that."
)


@dataclass(frozen=True)
class GroupsChoice:
    """What was said on the command line about groups; see ``Groups.read`` for each."""

    classes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="The classes' texts as they stand, one per line, or each with the class and a tab before it; the "
            "classes' names if not given.",
        ),
    ] = None
    label_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default=False, help="Column of the classes; recognised, such as y."),
    ] = None
    cue_column: Annotated[str, typer.Option(metavar="NAME", help="Column of the cue.")] = CUE_COLUMN
    pair: Annotated[
        Pair | None, typer.Option(metavar="A B", show_default=False, help="Two classes, where there are more.")
    ] = None
    cue_pair: Annotated[
        Pair | None, typer.Option(metavar="A B", show_default=False, help="Two cues, where there are more.")
    ] = None

    def read(self, path: Path, data: ContributionStore | Sequence[str], split_column: str = "split") -> Groups:
        """The groups of a store's images, or of images by their names."""
        from clip_lens_plugin.groups.grouping import Groups

        columns = {"label_column": self.label_column, "cue_column": self.cue_column}
        return Groups.read(path, data, **columns, split_column=split_column)

    def check(self, path: Path, model: HookedCLIP, names: Sequence[str]) -> None:
        """Raises what :meth:`effects` would, as far as names of the images tell, before anything is run."""
        from clip_lens_plugin.groups.four import four_groups
        from clip_lens_plugin.groups.table import read_columns

        if read_columns(path, names, self.label_column, self.cue_column, "split").labels is not None:
            known = self.read(path, names)
            four_groups(known, self.pairs(known))
            self.classifier(model, known)

    def effects(self, path: Path, model: HookedCLIP, store: ContributionStore) -> tuple[GroupEffects, str]:
        """What each head adds for the class and for the cue, and the lines of Python that make it, as ``effects``."""
        from clip_lens_plugin.groups.effects import group_effects

        known = self.read(path, store)
        pairs, classifier = self.pairs(known), self.classifier(model, known)
        label = "" if self.label_column is None else f", label_column={self.label_column!r}"
        cue = "" if self.cue_column == CUE_COLUMN else f", cue_column={self.cue_column!r}"
        lines = f"""from clip_lens_plugin import Groups, ZeroShotClassifier, group_effects

groups = Groups.read({str(path.resolve())!r}, data{label}{cue})
classifier = ZeroShotClassifier.from_labels(model, {list(classifier.names)!r})
effects = group_effects(data, classifier, groups{"" if pairs is None else f", {pairs!r}"})"""
        return group_effects(store, classifier, known, pairs), lines

    def pairs(self, known: Groups) -> tuple[Pair, Pair] | None:
        """What is compared; None where neither was said."""
        if self.pair is None and self.cue_pair is None:
            return None
        for option, given, names in (("--pair", self.pair, known.classes), ("--cue-pair", self.cue_pair, known.cues)):
            if given is None and len(names) != 2:
                raise ValueError(f"{option} is needed as well: there are {len(names)} of them.")
        return self.pair or (known.classes[0], known.classes[1]), self.cue_pair or (known.cues[0], known.cues[1])

    def classifier(self, model: HookedCLIP, known: Groups, file: str | None = None) -> ZeroShotClassifier:
        """The classifier of the texts of a file, or of the names of the classes, as they stand.

        Args:
            file: that of ``--classes`` if not given.
        """
        from clip_lens_plugin.cli.given.classes import chosen_classes
        from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

        are_numbers = known.classes == tuple(map(str, range(len(known.classes))))
        two_of_more = self.pair if len(known.classes) > 2 else None
        own = None if are_numbers else list(two_of_more or known.classes)
        return ZeroShotClassifier.from_labels(model, chosen_classes(file or self.classes, own).names or ())
