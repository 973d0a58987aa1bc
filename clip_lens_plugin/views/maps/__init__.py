"""Views on photographs: patches, words, attention."""
