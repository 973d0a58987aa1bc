"""The static pictures of views, drawn by matplotlib."""
