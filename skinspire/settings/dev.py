"""Development: helpful pages, everything local."""

from skinspire.settings.base import env
from skinspire.variables import read_flag, read_list

DEBUG = read_flag(env, "DEBUG", True)
ALLOWED_HOSTS = read_list(env, "ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
