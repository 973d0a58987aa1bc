"""A layer's attention: queries, keys and values, scores, and what the heads write."""
