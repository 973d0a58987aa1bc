"""What a store names: its model and its pictures, found again."""
