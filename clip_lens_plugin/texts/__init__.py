"""Pools of texts to describe heads with."""
