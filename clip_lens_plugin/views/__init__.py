"""Draws what the analyses return; computes nothing."""
