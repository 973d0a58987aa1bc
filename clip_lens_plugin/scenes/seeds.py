"""Which scenes commands draw."""

SCENES_SEED = 20_261
"""Neither the training scenes' seed nor that of the scenes that accuracy is measured on."""
