"""Edits of heads as weights of a plain checkpoint, what they do, and the card that says so."""
