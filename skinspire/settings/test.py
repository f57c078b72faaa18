"""The test environment: as close to production as one machine allows."""

from skinspire.settings.base import env
from skinspire.variables import read_flag, read_list

DEBUG = read_flag(env, "DEBUG", False)
ALLOWED_HOSTS = read_list(env, "ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
