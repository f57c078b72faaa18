"""Tokens of the API: signed claims that name a session, whose row alone lets somebody in.

Decision 0019 has the reasons. A session has one refresh token at a time, known by the SHA-256 of
its ``jti``; using it makes its successor, and using it again later ends the session.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
from secrets import token_hex
from typing import Any

import jwt
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import InvalidToken, TokenBackendError, TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, Token

from accounts.history import record
from accounts.models import AccountEvent, Door, Session, User
from accounts.sessions import end_session, live_session, open_session

_ALGORITHM = "HS256"
_LONGEST = 2048
"""Bytes of a token; ours have about 400."""
_HEADER = {"alg", "typ", "kid"}
_REQUIRED = ["exp", "iat", "jti", "sub", "aud", "iss"]
_OVER = "The token is not valid, or its session is over. Sign in again."


class Keys:
    """Signing keys, derived from SECRET_KEY and its fallbacks; the first signs, all verify."""

    @cached_property
    def by_name(self) -> dict[str, bytes]:
        secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
        derived = [_hmac("signing", settings.ENVIRONMENT.name, secret) for secret in secrets]
        return {sha256(key).hexdigest()[:16]: key for key in derived}

    @property
    def first(self) -> tuple[str, bytes]:
        return next(iter(self.by_name.items()))


def _hmac(purpose: str, value: str, secret: str | bytes) -> bytes:
    salt = f"accounts.tokens.{purpose}"
    return salted_hmac(salt, value, secret=secret, algorithm="sha256").digest()


class RotatingBackend(TokenBackend):
    """Signs by the first key and verifies by the one that ``kid`` names among ours."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(_ALGORITHM, audience=api_settings.AUDIENCE, issuer=api_settings.ISSUER)
        self.keys = keys

    def encode(self, payload: dict[str, Any]) -> str:
        kid, key = self.keys.first
        claims = payload | {"aud": self.audience, "iss": self.issuer}
        return jwt.encode(claims, key, _ALGORITHM, headers={"kid": kid})

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:
        """Its claims. Unlike the parent's, never without verifying.

        Raises:
            TokenBackendError: whatever is wrong with it, in the same words.
        """
        try:
            return jwt.decode(
                token,
                self._key(token),
                algorithms=[_ALGORITHM],
                audience=self.audience,
                issuer=self.issuer,
                options={"require": _REQUIRED, "strict_aud": True},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise TokenBackendError(_OVER) from error

    def key_of(self, token: str | bytes) -> bytes:
        """The key a token that was verified is signed with."""
        return self._key(token)

    def _key(self, token: str | bytes) -> bytes:
        """What a header says beyond ours (jwk, jku, x5u, crit) is not even looked at."""
        if len(token) > _LONGEST:
            raise ValueError("too long")
        header = jwt.get_unverified_header(token)
        kid = header.get("kid")
        if not set(header) <= _HEADER or not isinstance(kid, str):
            raise ValueError("not our header")
        if kid not in self.keys.by_name:
            raise ValueError("not our key")
        return self.keys.by_name[kid]


class _Ours(Token):
    session: Session

    def get_token_backend(self) -> RotatingBackend:
        return RotatingBackend(_keys())


_kept: tuple[tuple[str, ...], Keys] | None = None


def _keys() -> Keys:
    """Derived once for the secrets of the settings."""
    global _kept
    secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    if _kept is None or _kept[0] != secrets:
        _kept = secrets, Keys()
    return _kept[1]


class SessionAccessToken(_Ours, AccessToken):
    """Lets a request in, as long as its session lives; five minutes at most."""


class SessionRefreshToken(_Ours, RefreshToken):  # type: ignore[misc]
    """Makes the next two."""


@dataclass(frozen=True)
class Pair:
    """What a client holds."""

    access: str
    refresh: str


def sign_in(user: User, request: Any) -> Pair:
    """Begin a session for a program whose password was right.

    Raises:
        AccountLocked, AccountInactive: none begins.
    """
    jti = token_hex(16)
    lifetime = timedelta(hours=settings.ACCOUNT_REFRESH_HOURS)
    session = open_session(
        user, door=Door.API, request=request, lifetime=lifetime, key_hash=_hash(jti)
    )
    return _pair(session, jti, timezone.now())


def session_of(token: Token) -> Session:
    """The living session a token names.

    Raises:
        InvalidToken: it is over, or not the token's own.
    """
    session = live_session(token.get("sid"))
    if session is None or session.door != Door.API or str(session.user_id) != token.get("sub"):
        raise InvalidToken(_OVER)
    return session


def read_token(kind: type[Token], raw: str) -> tuple[Token, Session]:
    """A token and its session, which lives.

    Raises:
        InvalidToken: for whatever reason, in the same words.
    """
    try:
        token = kind(raw)  # type: ignore[arg-type]
    except TokenError as error:
        raise InvalidToken(_OVER) from error
    return token, session_of(token)


def verify(raw: str) -> Token:
    """Either kind of token, where it is good for what it is for at this moment.

    Raises:
        InvalidToken: it is not.
    """
    try:
        token, _ = read_token(SessionAccessToken, raw)
    except InvalidToken:
        token, session = read_token(SessionRefreshToken, raw)
        if session.key_hash != _hash(token["jti"]):
            raise
    return token


def rotate(raw: str, request: Any) -> Pair:
    """Exchange a refresh token for its successor.

    Of requests at the same time with the same token one rotates; the others, within a few seconds
    (ACCOUNT_REFRESH_GRACE_SECONDS), get the very same successor.

    Raises:
        InvalidToken: it is not valid; where it was used before, its session is ended now.
    """
    token, session = read_token(SessionRefreshToken, raw)
    used, jti, now = _hash(token["jti"]), _successor(token, raw), timezone.now()
    with transaction.atomic():
        if Session.objects.filter(pk=session.pk, key_hash=used).update(
            key_hash=_hash(jti), previous_hash=used, rotated_at=now, last_seen_at=now
        ):
            _note(AccountEvent.Event.TOKEN_REFRESHED, AccountEvent.Outcome.DONE, session, request)
            return _pair(session, jti, now)
    session = session_of(token)  # as whoever was faster left it
    if session.previous_hash == used and session.key_hash == _hash(jti):
        rotated = session.rotated_at or session.created_at
        if now - rotated <= timedelta(seconds=settings.ACCOUNT_REFRESH_GRACE_SECONDS):
            return _pair(session, jti, rotated)
    _end_replayed(session, request)
    raise InvalidToken(_OVER)


def _end_replayed(session: Session, request: Any) -> None:
    with transaction.atomic():
        if end_session(session, "replayed", None, request):
            _note(AccountEvent.Event.TOKEN_REPLAYED, AccountEvent.Outcome.REFUSED, session, request)


def _note(event: str, outcome: str, session: Session, request: Any) -> None:
    record(
        event, user=session.user, door=Door.API, request=request, outcome=outcome, session=session
    )


def _pair(session: Session, jti: str, at: datetime) -> Pair:
    """Both tokens end with their session, and of one rotation they are the same each time."""
    access, refresh = SessionAccessToken(), SessionRefreshToken()
    for token in (access, refresh):
        token["sub"], token["sid"] = str(session.user_id), str(session.pk)
        token.set_iat(at_time=at)
    refresh["jti"] = jti
    refresh.set_exp(from_time=session.expires_at, lifetime=timedelta())
    expires = min(access.current_time + api_settings.ACCESS_TOKEN_LIFETIME, session.expires_at)
    access.set_exp(from_time=expires, lifetime=timedelta())
    return Pair(str(access), str(refresh))


def _hash(jti: str) -> str:
    return sha256(str(jti).encode()).hexdigest()


def _successor(token: Token, raw: str) -> str:
    """The ``jti`` that follows, which only we can tell: by the key that signed the token, so that
    processes with the old and with the new SECRET_KEY agree on it."""
    key = RotatingBackend(_keys()).key_of(raw)
    return _hmac("successor", f"{token['sid']}:{token['jti']}", key).hex()[:32]
