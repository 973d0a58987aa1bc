"""Whether a source is what its classes say."""
