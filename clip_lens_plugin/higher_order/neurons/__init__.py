"""What neurons do through later heads, and its moments over images."""
