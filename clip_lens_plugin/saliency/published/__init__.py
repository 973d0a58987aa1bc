"""The published methods that maps are compared with."""
