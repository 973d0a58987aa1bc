"""Heads that carry a spurious cue: found on one part of the images, removed, and reported on another."""

from __future__ import annotations

from typing import Any

import numpy as np

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.bars import Bars
from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.groups.effects import effects_of
from clip_lens_plugin.groups.four import FourGroups, four_groups
from clip_lens_plugin.groups.grouping import groups_of
from clip_lens_plugin.groups.margins import Margins, direction_of, margins_of
from clip_lens_plugin.groups.spurious.accuracy import GroupAccuracy, Stage
from clip_lens_plugin.groups.spurious.control import Control, permuted_cues, random_heads
from clip_lens_plugin.groups.spurious.result import SpuriousHeads
from clip_lens_plugin.groups.spurious.runs import run_margins
from clip_lens_plugin.groups.spurious.search import HeadMargins, Limits, chosen_heads, without
from clip_lens_plugin.groups.spurious.splitting import parted
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.protocol import ImageModel

CANDIDATES, MOST_REMOVED, RANDOM_SETS, PERMUTATIONS = 20, 10, 200, 50


@takes_bridges
def spurious_heads(
    model: ImageModel,
    data: Any,
    classifier: Any,
    groups: Any,
    pairs: Any = None,
    *,
    without_cue: Any = None,
    images: Any = None,
    runs: bool = True,
    candidates: int = CANDIDATES,
    most: int = MOST_REMOVED,
    random_sets: int = RANDOM_SETS,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = False,
) -> SpuriousHeads:
    """Heads whose removal helps the group that a cue misleads most, with what chance gives in the same table.

    The images are parted in three, by the groups' own splits or drawn from the seed: heads are replaced by their means
    over the first part; on the second they are chosen one after the other, among those of the greatest cue effect, by
    the worst group's share of right answers; all that is reported is of the third, on which nothing was chosen. An
    answer is the nearer of the two classes' texts.

    Args:
        model: that the data are of; it is run for the total effect and for the effect at the class token.
        data: contributions, a store, or the path of one.
        classifier, groups, pairs: see :func:`group_effects`.
        without_cue: a classifier of the same classes whose texts do not hold the cue: what could be reached.
        images: the preprocessed images of ``data``, or the data set that the store is of; if not given, the pictures
            that were decomposed, or that data set where it is in reach.
        runs: whether the model is run; without runs the direct effect alone is reported.
        candidates: heads of the greatest cue effect that are tried.
        most: heads that are removed together at most.
        random_sets: sets of as many other heads of the same layers that are removed for comparison.
        permutations: turns of the same search with cues that were permuted, and of their effects.
        seed: of the splits, the random sets and the permutations.
        batch_size: images in a run.
        progress: show a bar.

    Raises:
        ValueError: as :func:`group_effects`; if a split lacks a group, an image occurs in two rows, ``images`` are not
            those of the data, or hooks are on the model.
        FileNotFoundError: if there is no such CSV.
    """
    limits = Limits(checked_number("candidates", candidates), checked_number("most", most))
    random_sets = checked_number("random_sets", random_sets, least=0)
    permutations = checked_number("permutations", permutations, least=0)
    seed, batch_size = checked_number("seed", seed, least=0), checked_number("batch_size", batch_size)
    if images is not None and not runs:
        raise ValueError("Images are for runs of the model: leave them out, or runs=False.")
    found = data_of(data, model)
    known = groups_of(groups, found)
    four = four_groups(known, pairs)
    rows = parted(four, known.parts, found.names, seed)
    direction = direction_of(found, classifier, known.classes, four.pair)
    margins = margins_of(found, direction)
    shape = margins.heads.shape[1:]
    seen = {part: _seen(margins, four, at) for part, at in rows.items()}
    means = seen["means"].heads.mean(0)
    chosen = chosen_heads(seen["validation"], means, limits)
    heads = tuple((at // shape[1], at % shape[1]) for at in chosen)

    test = seen["test"]
    shares = [
        GroupAccuracy.of("before", test.whole, test.number),
        GroupAccuracy.of("direct", without(test, means, chosen), test.number),
    ]
    note = "" if heads else "No head raises the worst group of the validation images, so none is removed."
    if heads and runs:
        pictures, note = _images(found, images)
        if pictures is not None:
            n_runs = len(rows["means"]) + 2 * len(rows["test"])
            with Bars(visible=progress) as bars:
                task = bars.add_task("running without heads", total=n_runs)
                of_runs = run_margins(
                    model,
                    found,
                    pictures,
                    rows,
                    heads,
                    direction,
                    margins.whole,
                    batch_size,
                    lambda n: bars.advance(task, n),
                )
            stages: tuple[Stage, ...] = ("class_token", "total")
            shares += [GroupAccuracy.of(stage, of_runs[stage], test.number) for stage in stages if stage in of_runs]
    elif heads:
        note = "The model was not run, so the direct effect stands alone."
    if without_cue is not None:
        plain = margins_of(found, direction_of(found, without_cue, known.classes, four.pair))
        shares.append(GroupAccuracy.of("ceiling", plain.whole[rows["test"]], test.number))

    ours = shares[1].worst.value
    return SpuriousHeads(
        heads=heads,
        shares=tuple(shares),
        random=Control.of(random_heads(test, means, heads, shape, random_sets, seed), ours),
        permuted=Control.of(permuted_cues(seen["validation"], test, means, limits, permutations, seed), ours),
        effects=effects_of(margins, four, permutations, seed, rows["validation"]),
        rows={part: tuple(at.tolist()) for part, at in rows.items()},
        drawn=known.parts is None,
        note=note,
    )


def _seen(margins: Margins, four: FourGroups, rows: np.ndarray) -> HeadMargins:
    heads = margins.heads[rows]
    return HeadMargins(heads.reshape(len(rows), -1), margins.whole[rows], four.number[rows])


def _images(data: Data, images: Any) -> tuple[Any, str]:
    """The images of the data; None with the reason where they are not in reach."""
    if images is not None:
        return images, ""
    try:
        return data.needed_source(), ""
    except ValueError as error:
        return None, f"The direct effect stands alone: {error}"
