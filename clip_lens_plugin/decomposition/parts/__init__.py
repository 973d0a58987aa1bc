"""The parts of embeddings, as they are kept and as they are read."""
