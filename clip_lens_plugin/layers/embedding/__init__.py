"""What enters the first layer: patches of images, tokens of texts."""
