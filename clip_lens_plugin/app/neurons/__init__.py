"""What the page on neurons shows, and what is kept of it."""
