"""People who sign in. They live in the active environment's own database."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """Django's user, as a model of our own: swapping it in later would mean a new database."""

    class Meta(AbstractUser.Meta):
        verbose_name = "user"
