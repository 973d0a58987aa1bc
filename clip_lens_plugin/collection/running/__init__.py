"""A collection while it is made."""
