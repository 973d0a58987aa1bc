"""The steps that a Hugging Face stream is made of: private names of ``datasets``, which live here and nowhere else.

A stream is a chain, at branches a tree, of steps that ends in readers of files. Only steps whose state is known to
bring back every sample are taken.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from clip_lens_plugin.datasets.shards import index_shard
from clip_lens_plugin.dependencies.names import attribute
from clip_lens_plugin.files.given import NotRegularError, refuse_not_regular

READERS = {"ExamplesIterable": "generate_examples_fn", "ArrowExamplesIterable": "generate_tables_fn"}
"""Steps that read files, to what holds the function that does."""

FUNCTIONS = {"FilteredExamplesIterable", "MappedExamplesIterable"}
"""Steps that apply a function of the user."""

FORMATTED = "FormattedExamplesIterable"

OVER_ONE = {
    FORMATTED,
    *FUNCTIONS,
    "RebatchedArrowExamplesIterable",
    "RepeatExamplesIterable",
    "SelectColumnsIterable",
    "SkipExamplesIterable",
    "StepExamplesIterable",
    "TakeExamplesIterable",
}
"""Steps that take the samples of one step before them."""

JOINED = "VerticallyConcatenatedMultiSourcesExamplesIterable"

MIXED = {"CyclingMultiSourcesExamplesIterable", "RandomlyCyclingMultiSourcesExamplesIterable"}
"""Steps that go on from their state too, but whose parts are no parts of the whole where they are split."""

EXACT = {*READERS, *OVER_ONE, JOINED}
"""Steps that go on from their state with the next sample."""

SHUFFLED = "BufferShuffledExamplesIterable"

ATTRIBUTES = {
    **{kind: (function, "kwargs", "_state_dict") for kind, function in READERS.items()},
    **dict.fromkeys(OVER_ONE, ("ex_iterable", "_state_dict")),
    **dict.fromkeys(FUNCTIONS, ("ex_iterable", "_state_dict", "formatting", "decoding_pool", "function", "fn_kwargs")),
    FORMATTED: ("ex_iterable", "_state_dict", "formatting", "features"),
    **dict.fromkeys((JOINED, *MIXED), ("ex_iterables", "_state_dict")),
    SHUFFLED: ("buffer_size",),
    "FormattingConfig": ("is_table",),
    "DistributedConfig": ("rank", "world_size"),
}
"""Steps, and what configures them, to the attributes that are read of them."""

NAMES = (
    "datasets:IterableDataset._ex_iterable",
    "datasets:IterableDataset._formatting",
    "datasets:IterableDataset._distributed",
    "datasets:IterableDataset._token_per_repo_id",
    "datasets:IterableDataset._starting_state_dict",
    "datasets:Dataset._fingerprint",
    "datasets:Image.decode",
    "datasets:Image.decode_example",
    "datasets.packaged_modules.webdataset.webdataset:WebDataset._generate_examples",
    "datasets.packaged_modules.webdataset.webdataset:WebDataset.DECODERS",
    *(f"datasets.iterable_dataset:{kind}.{name}" for kind, names in ATTRIBUTES.items() for name in names),
)
"""What is read beside the public interface."""

PLAIN = (str, int, float, bool, type(None))

PLAIN_MEMBERS = ("txt", "text", "transcript", "cls", "cls2", "index", "inx", "id", "json", "jsn")
"""Suffixes of a shard's members that are parsed for a function of the user: texts, integers, JSON."""


def opened_steps(dataset: Any) -> tuple[Any, bool]:
    """A copy of a stream whose readers parse no member of a shard but :data:`PLAIN_MEMBERS`; whether even those.

    They are parsed where a function of the user stands above them, which expects them so.

    Args:
        dataset: a ``datasets.IterableDataset``; it is left as it is.
    """
    parsed = any(type(step).__name__ in FUNCTIONS for step in steps(dataset))
    opened = _copied(_of(dataset, "_ex_iterable"), lambda builder: _with_plain_members(builder, parsed))
    return _of_steps(dataset, opened), parsed


def at_beginning(dataset: Any) -> Any:
    """A copy of a stream that is read on its own; ``copy.copy`` would move the given one as well."""
    return _of_steps(dataset, _copied(_of(dataset, "_ex_iterable"), lambda builder: builder))


def _of_steps(dataset: Any, step: Any) -> Any:
    import datasets

    return datasets.IterableDataset(
        step,
        info=dataset.info,
        split=dataset.split,
        formatting=_of(dataset, "_formatting"),
        distributed=_of(dataset, "_distributed"),
        token_per_repo_id=_of(dataset, "_token_per_repo_id"),
    )


def steps(dataset: Any) -> Iterator[Any]:
    """Every step, from the last to the readers."""
    left = [_of(dataset, "_ex_iterable")]
    while left:
        step = left.pop()
        yield step
        left += reversed(_before(step))


def _before(step: Any) -> list[Any]:
    """The steps whose samples a step takes; none before a reader, nor before a step that is refused."""
    kind = type(step).__name__
    if kind in OVER_ONE:
        return [_of(step, "ex_iterable")]
    return list(_of(step, "ex_iterables")) if kind in {JOINED, *MIXED} else []


def refuse_inexact(dataset: Any) -> None:
    """Nothing, if the stream can be taken up where it stood, sample for sample.

    Raises:
        ValueError: naming the step that cannot, or that decodes pictures, and the mend.
    """
    for step in steps(dataset):
        kind = type(step).__name__
        if kind == SHUFFLED:
            raise ValueError(
                f"The stream is shuffled through a buffer of {_of(step, 'buffer_size')} samples, which its state does "
                f"not hold: a run that is resumed would lose them. Give the stream without shuffle(); what is "
                f"collected of all its samples does not depend on their order."
            )
        if kind not in EXACT | MIXED:
            raise ValueError(
                f"The stream has a step ({kind}) that is not known to be resumed sample for sample. Give the stream "
                f"without it, or save what comes out of it and collect that."
            )
        formatting = _of(step, "formatting") if kind in {FORMATTED, *FUNCTIONS} else None
        if formatting is not None and _of(formatting, "is_table"):
            raise ValueError(
                "The stream has a map() of tables (with_format 'arrow', 'pandas' or 'polars'), which may skip samples "
                "when it is resumed. Take the format off before map(): stream.with_format(None)."
            )
        if kind in FUNCTIONS and _of(step, "decoding_pool") is not None:
            raise ValueError("The stream decodes its pictures (decode()); give it without, they are opened here.")
        if kind == FORMATTED and (column := _decoded(_of(step, "features"))) is not None:
            raise ValueError(
                f"The stream decodes the column {column!r} before a map() or filter(), by other rules than those "
                f"pictures are opened by here, and stops at the first damaged one. Put this before that step: "
                f"stream.cast_column({column!r}, datasets.Image(decode=False))."
            )


def _decoded(features: Any) -> str | None:
    """A column that is decoded when it is read."""
    import datasets

    _of(datasets.Image, "decode_example")  # Features that are never decoded have none, so it is asked of one that is.
    for column, feature in (features or {}).items():
        # Columns within a column are a dictionary of features, which has no switch of its own.
        if not isinstance(feature, Mapping) and hasattr(feature, "decode_example") and _of(feature, "decode"):
            return column
    return None


def refuse_split(dataset: Any) -> None:
    """Nothing, if the parts of several processes hold every sample once.

    Raises:
        ValueError: if the stream is a part already, or mixes several.
    """
    if _of(dataset, "_distributed") is not None:
        raise ValueError(
            "The stream is a part already (split_dataset_by_node), and collect splits it among its processes itself: "
            "give every process the whole stream."
        )
    if any(type(step).__name__ in MIXED for step in steps(dataset)):
        raise ValueError(
            "The stream mixes several (interleave_datasets), which cannot be split among processes so that every "
            "sample comes once: collect it in one process, or collect its parts one by one."
        )


def is_moved(dataset: Any) -> bool:
    """Whether ``load_state_dict`` set it to another place than its beginning."""
    return _of(dataset, "_starting_state_dict") is not None


def split_in_words(dataset: Any) -> str:
    """Which part of the stream it is, "" for the whole."""
    part = _of(dataset, "_distributed")
    return "" if part is None else f"part {_of(part, 'rank')} of {_of(part, 'world_size')}"


def reads_shards(dataset: Any) -> bool:
    """Whether all readers are of webdataset shards, whose members are left as they are."""
    return all(_builder_of_shards(step) is not None for step in steps(dataset) if type(step).__name__ in READERS)


def listing(dataset: Any) -> list[tuple[str, int]]:
    """What the stream is read from and through: names of files with their bytes (-1 if unknown), and functions.

    Tar files of this machine are looked through for damage: ``datasets`` takes a damaged header, and a file that
    stops between two members, for the end.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a tar file is damaged or cut off, or a pipe or the like stands in a file's place.
    """
    found = []
    for step in steps(dataset):
        kind = type(step).__name__
        found.append((kind, -1))
        if kind in FUNCTIONS:
            found.append((_function_identity(_of(step, "function")), -1))
            found += [(f"{name} {_printed(value)[0]}", -1) for name, value in sorted(_of(step, "fn_kwargs").items())]
        for value in _of(step, "kwargs").values() if kind in READERS else ():
            found += [_printed(each) for each in (value if isinstance(value, list | tuple) else [value])]
    return found


def _printed(value: Any) -> tuple[str, int]:
    """A reader's argument, often the path of a file."""
    if not isinstance(value, str):
        return repr(value) if isinstance(value, PLAIN) else f"{type(value).__name__} {_fingerprint(value)}", -1
    if "://" in value or "::" in value:
        return value, -1
    if not os.path.isabs(value):
        return value, -1
    if value.endswith(".tar"):
        index_shard(value)
    try:
        refuse_not_regular(value)
        return os.path.basename(value), os.stat(value).st_size
    except NotRegularError as error:
        raise ValueError(f"The stream is read from {value}, which is {error}.") from error
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {value}, which the stream is read from.") from None


def _function_identity(function: Any) -> str:
    """Enough to notice that a function is another; not every change of one."""
    inner = getattr(function, "func", function)
    code = getattr(inner, "__code__", None)
    parts = [getattr(inner, "__qualname__", type(inner).__name__)]
    if code is not None:
        constants = [each for each in code.co_consts if isinstance(each, PLAIN)]
        parts += [code.co_code.hex(), repr(code.co_names), repr(constants)]
    cells = [cell.cell_contents for cell in getattr(inner, "__closure__", None) or ()]
    parts.append(repr([each for each in cells if isinstance(each, PLAIN)]))
    parts += [_function_identity(each) for each in getattr(function, "args", ()) if callable(each)]
    return " ".join(parts)


def hub_fingerprint(dataset: Any) -> str:
    """What ``datasets`` takes for the identity of a ``datasets.Dataset``."""
    return _of(dataset, "_fingerprint")


def _fingerprint(value: Any) -> str:
    """That of a dataset, "" where there is none."""
    import datasets

    # Arguments of any other class, as a table or an object of the user, may lack one.
    return hub_fingerprint(value) if isinstance(value, datasets.Dataset) else getattr(value, "_fingerprint", "")


def _builder_of_shards(step: Any) -> Any:
    """What parses the members of webdataset shards for a step; None for other readers, and steps above the readers."""
    from datasets.packaged_modules.webdataset import webdataset

    name = READERS.get(type(step).__name__)
    # A reader may be a plain function, which is bound to nothing.
    builder = None if name is None else getattr(_of(step, name), "__self__", None)
    return builder if isinstance(builder, _of(webdataset, "WebDataset")) else None


def _of(holder: Any, name: str) -> Any:
    return attribute(holder, name, "datasets", __name__)


def _copied(step: Any, opened: Callable[[Any], Any]) -> Any:
    """A step and all before it, which share no state with the given ones; ``opened`` makes the readers of shards."""
    copied, before = copy.copy(step), [_copied(each, opened) for each in _before(step)]
    _of(step, "_state_dict")  # It is set next, which under another name would keep the given stream's.
    copied._state_dict = None
    if type(step).__name__ in OVER_ONE:
        (copied.ex_iterable,) = before
    elif before:
        copied.ex_iterables = before
    builder = _builder_of_shards(step)
    if builder is not None:
        copied.generate_examples_fn = _of(opened(builder), "_generate_examples")
    return copied


def _with_plain_members(builder: Any, parsed: bool) -> Any:
    """A copy of a reader of shards; the decoders that it lacks might unpickle, or stop the stream at one bad member."""
    kind = type(builder)
    decoders = _of(kind, "DECODERS")
    kept = {suffix: decoders[suffix] for suffix in PLAIN_MEMBERS if parsed and suffix in decoders}
    copied = object.__new__(type(kind.__name__, (kind,), {"DECODERS": kept, "__module__": kind.__module__}))
    copied.__dict__ = dict(builder.__dict__)
    return copied
