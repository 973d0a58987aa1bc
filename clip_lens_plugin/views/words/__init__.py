"""What views say of a result in sentences."""
