"""Views on neurons, and on what feeds a head."""
