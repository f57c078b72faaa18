"""How passwords are kept."""

from __future__ import annotations

from django.contrib.auth.hashers import Argon2PasswordHasher


class OwaspArgon2PasswordHasher(Argon2PasswordHasher):
    """Argon2id at OWASP's minimum: 19 MiB, two passes, one lane.

    Django's own 100 MiB would let a handful of simultaneous guesses exhaust a small server.
    """

    time_cost = 2
    memory_cost = 19 * 1024
    parallelism = 1
