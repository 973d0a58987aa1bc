"""Figures on photographs."""
