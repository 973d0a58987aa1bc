"""The explorer's pages, in the order of their tabs."""

from clip_lens_plugin.app.pages.heads import HEADS
from clip_lens_plugin.app.pages.image import IMAGE
from clip_lens_plugin.app.pages.off import OFF
from clip_lens_plugin.app.pages.search import SEARCH
from clip_lens_plugin.app.pages.why import WHY

PAGES = {"image": IMAGE, "why": WHY, "off": OFF, "heads": HEADS, "search": SEARCH}
"""By the name that a link gives."""
