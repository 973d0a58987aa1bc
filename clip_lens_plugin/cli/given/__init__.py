"""What was typed: the model, the data, the texts."""
