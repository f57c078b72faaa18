"""The records and the four actions in the admin."""

from dbops.admin import records  # noqa: F401  (registers the models)
