"""A model's weights by TransformerLens's names."""
