"""Text towers and tokenizers of the libraries that models come from."""
