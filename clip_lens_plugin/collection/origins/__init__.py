"""What a collection names: its model and its pictures, found again."""
