"""Hooks, caches and runs of a model, as TransformerLens has them."""
