"""Figures on what heads are about."""
