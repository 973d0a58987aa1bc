"""Maps of what texts name, scored on masks: by any method, on photographs or drawn scenes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
