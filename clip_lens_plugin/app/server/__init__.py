"""The explorer's server, and who is let in."""
