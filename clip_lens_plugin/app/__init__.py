"""The explorer: questions to a CLIP model in the browser, answered by this machine alone."""
