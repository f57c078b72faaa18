"""The records and the actions in the admin."""

from dbops.admin import records  # noqa: F401  (registers the models)
