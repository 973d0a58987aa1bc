"""The error for what a user named by number, and that there is not."""

from __future__ import annotations


class NotThereError(IndexError):
    """A layer, a head, a neuron or a row that a user named, and that there is not."""
