"""How often somebody may ask, counted exactly: by one statement, in the database that all
processes share.

Django's caches would do for one process; of those that are shared none adds and tells in one step,
so that parallel requests would read the same number.
"""

from __future__ import annotations

from hashlib import sha256
from random import randrange
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.addresses import address_block, client_address

# What a crash would lose is a minute's count: no commit waits for the disk.
_COUNT = """
    SET LOCAL synchronous_commit TO off;
    INSERT INTO public.accounts_requestcount AS counted (key, count, ends_at)
    VALUES (%s, 1, clock_timestamp() + interval '1 minute')
    ON CONFLICT (key) DO UPDATE SET
        count = CASE WHEN counted.ends_at > clock_timestamp() THEN counted.count + 1 ELSE 1 END,
        ends_at = CASE WHEN counted.ends_at > clock_timestamp() THEN counted.ends_at
                       ELSE clock_timestamp() + interval '1 minute' END
    RETURNING count, greatest(extract(epoch FROM ends_at - clock_timestamp()), 0)::float8
"""
_FORGET = """
    DELETE FROM public.accounts_requestcount WHERE key IN (
        SELECT key FROM public.accounts_requestcount
         WHERE ends_at < clock_timestamp() - interval '1 hour' LIMIT 1000 FOR UPDATE SKIP LOCKED)
"""
_FORGET_EVERY = 1000


def count_request(key: str) -> tuple[int, float]:
    """Count one; (how many there were in this minute, seconds until it ends)."""
    hashed = sha256(key.encode(errors="replace")).hexdigest()
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, [hashed])
        counted, seconds = cursor.fetchone()
        if not randrange(_FORGET_EVERY):
            with transaction.atomic():
                cursor.execute(_FORGET)
    return counted, seconds


class SharedThrottle(BaseThrottle):
    """By API_LIMITS: for each user, or for each address where nobody has signed in.

    A view with ``throttle_scope`` is counted under it, by address.
    """

    _seconds: float | None = None

    def allow_request(self, request: Request, view: Any) -> bool:
        scope, who = _counted_as(request, view)
        limit = settings.API_LIMITS[scope]
        if not limit:
            return True
        counted, self._seconds = count_request(f"{scope} {who}")
        return counted <= limit

    def wait(self) -> float | None:
        return self._seconds


def _counted_as(request: Request, view: Any) -> tuple[str, str]:
    scope = getattr(view, "throttle_scope", "")
    if not scope and request.user.is_authenticated:
        return "signed-in", str(request.user.pk)
    return scope or "open", address_block(client_address(request))
