"""Views on what heads are about: texts, roles, classes, groups."""
