"""What the page on heads shows, and what is kept of it."""
