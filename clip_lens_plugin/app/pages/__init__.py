"""The explorer's pages, in the order of their tabs."""

from clip_lens_plugin.app.pages.heads import HEADS
from clip_lens_plugin.app.pages.image import IMAGE
from clip_lens_plugin.app.pages.neurons import NEURONS
from clip_lens_plugin.app.pages.off import OFF
from clip_lens_plugin.app.pages.search import SEARCH
from clip_lens_plugin.app.pages.why import WHY

PAGES = {"image": IMAGE, "heads": HEADS, "why": WHY, "off": OFF, "search": SEARCH, "neurons": NEURONS}
"""By the name that a link gives."""
