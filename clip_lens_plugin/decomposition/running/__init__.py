"""Runs of a model that keep what a decomposition needs."""
