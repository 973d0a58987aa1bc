"""Names of other libraries that are not part of their public interface, one module per library.

Each is listed in its module's ``NAMES`` and reached nowhere else, so that a release which renames one fails at one
named place. Those of ``datasets`` are in :mod:`clip_lens_plugin.datasets.streams.steps`, which holds nothing else.
"""
