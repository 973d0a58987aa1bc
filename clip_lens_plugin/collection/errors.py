"""What stores raise and warn of, where more than one file does."""

from __future__ import annotations


class CollectionWarning(UserWarning):
    """Something about a store that a user should know of, and that stops nothing."""


class SkippedWarning(CollectionWarning):
    """Many samples of a data set could not be read."""


class CollectionNotFoundError(ValueError):
    """There is no store, or an unfinished or damaged one."""


class CollectionDamagedError(CollectionNotFoundError):
    """A file of a store is not what was written."""

    def __init__(self, key: str, place: object, how: str) -> None:
        super().__init__(
            f"{key} in {place} is damaged: {how}. Collect it again; 'clip-lens verify' says what is still good."
        )
        self.key, self.how = key, how


NOTHING_KEPT = "nothing is kept yet"
"""How a note begins where what was collected is lost."""

NOT_WHOLE = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What parsers and codecs raise on what is damaged."""
