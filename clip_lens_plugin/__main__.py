"""``python -m clip_lens_plugin`` is the command ``clip-lens``."""

from clip_lens_plugin.cli import app

app(prog_name="clip-lens")
