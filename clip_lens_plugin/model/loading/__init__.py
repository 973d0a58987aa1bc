"""Loads open_clip's and Hugging Face's models, and turns what can go wrong into one message that says what to do."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
