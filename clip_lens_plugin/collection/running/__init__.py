"""A store while it is made."""
