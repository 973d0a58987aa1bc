"""CLIP image encoders as TransformerLens models, decomposed exactly into heads, tokens, MLPs and constants.

Names are loaded when first used, from where ``__init__.pyi`` says.
"""

import lazy_loader

from clip_lens_plugin.bridge.registration import register

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

register()
del register
