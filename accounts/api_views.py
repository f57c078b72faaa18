"""``/api/auth/``: programs sign in, go on, ask who they are, and leave."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, TypeVar, cast

from django.conf import settings
from django.utils.cache import add_never_cache_headers
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework.exceptions import NotFound, Throttled
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView
from rest_framework_simplejwt.exceptions import AuthenticationFailed
from rest_framework_simplejwt.utils import datetime_from_epoch

from accounts import second_factor, tokens
from accounts.admission import RETRY_SECONDS, Crowded, one_of_few
from accounts.api_serializers import (
    CredentialsSerializer,
    LogoutSerializer,
    MeSerializer,
    PairSerializer,
    RefreshSerializer,
    SessionSerializer,
    TokenSerializer,
    VerifiedSerializer,
)
from accounts.models import Door, Session, User
from accounts.sessions import SessionRefused, end_session
from accounts.signing_in import SignInRefused, authenticate_person

_TAGS = ["accounts"]
_TOKEN = "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxIn0.eyJzdWIiOiI3In0.c2lnbmF0dXJl"
_ENDED = OpenApiResponse(description="It is over, at once and everywhere.")
_MOST_SESSIONS = 100
_Example = tuple[str, dict[str, Any]]
_View = TypeVar("_View", bound=Callable[..., Any])


def _valid(serializer: type[Serializer[Any]], request: Request) -> dict[str, Any]:
    found = serializer(data=request.data)
    found.is_valid(raise_exception=True)
    return cast(dict[str, Any], found.validated_data)


def _session(request: Request) -> Session:
    return cast(Session, request.auth.session)  # type: ignore[union-attr]


class _NeverKept(APIView):
    """What it answers is no cache's business."""

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        answer = super().finalize_response(request, response, *args, **kwargs)
        add_never_cache_headers(answer)
        return answer


class _OpenView(_NeverKept):
    """Of those who have no access token, or no more; what they bring is in the body."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    def get_authenticate_header(self, request: Any) -> str:
        return 'Bearer realm="api"'


def _open_schema(
    operation_id: str,
    summary: str,
    asked: type[Serializer[Any]],
    answered: type[Serializer[Any]],
    request: _Example,
    response: _Example,
) -> Callable[[_View], _View]:
    """What the schema tells of a view that takes a body and no access token.

    Args:
        request: an example of a body, with its name.
        response: one of what is answered to it.
    """
    return extend_schema(
        operation_id=operation_id, summary=summary, tags=_TAGS, auth=[],
        request=asked, responses=answered,
        examples=[
            OpenApiExample(*request, request_only=True),
            OpenApiExample(*response, response_only=True),
        ],
    )  # fmt: skip


class TokenView(_OpenView):
    throttle_scope = "sign-in"

    @_open_schema(
        "sign_in", "Sign in", CredentialsSerializer, PairSerializer,
        ("a program signs in", {"username": "nora", "password": "correct horse 7 battery"}),
        ("its tokens", {"access": _TOKEN, "refresh": _TOKEN}),
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """Name and password for a pair of tokens. It begins a session, like a browser's."""
        given = _valid(CredentialsSerializer, request)
        try:
            with one_of_few():
                user = authenticate_person(request, given["username"], given["password"], Door.API)
            otp = given.get("otp", "")
            if why := second_factor.refusal(user, otp, door=Door.API, request=request):
                raise AuthenticationFailed(why)
            pair = tokens.sign_in(user, request)
        except Crowded as error:
            raise Throttled(wait=RETRY_SECONDS) from error
        except second_factor.TooManyCodes as error:
            raise Throttled(wait=error.retry_after) from error
        except SignInRefused as error:
            if error.retry_after is not None:
                raise Throttled(wait=error.retry_after) from error
            raise AuthenticationFailed(str(error)) from error
        except SessionRefused as error:
            raise AuthenticationFailed(str(SignInRefused())) from error
        return Response(PairSerializer(pair).data)


class RefreshView(_OpenView):
    @_open_schema(
        "refresh_tokens", "Exchange a refresh token", RefreshSerializer, PairSerializer,
        ("the token from before", {"refresh": _TOKEN}),
        ("the next two", {"access": _TOKEN, "refresh": _TOKEN}),
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """A refresh token for the next pair. Each is good for one exchange: used again after some
        seconds, it ends the session, for whoever holds the tokens."""
        pair = tokens.rotate(_valid(RefreshSerializer, request)["refresh"], request)
        return Response(PairSerializer(pair).data)


class VerifyView(_OpenView):
    @_open_schema(
        "verify_token", "Ask whether a token is good", TokenSerializer, VerifiedSerializer,
        ("an access token", {"token": _TOKEN}),
        ("good", {"token_type": "access", "expires_at": "2026-11-27T12:05:00Z"}),
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """200 where a token of either kind would be taken at this moment."""
        token = tokens.verify(_valid(TokenSerializer, request)["token"])
        expires_at = datetime_from_epoch(token["exp"])
        found = {"token_type": token["token_type"], "expires_at": expires_at}
        return Response(VerifiedSerializer(found).data)


class LogoutView(_NeverKept):
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="sign_out",
        summary="Sign out",
        tags=_TAGS,
        request=LogoutSerializer,
        responses={204: _ENDED},
        examples=[OpenApiExample("without an access token", {"refresh": _TOKEN})],
    )
    def post(self, request: Request) -> Response:
        """End the session: of the refresh token in the body, or else of the access token."""
        refresh = _valid(LogoutSerializer, request).get("refresh")
        if refresh:
            _, session = tokens.read_token(tokens.SessionRefreshToken, refresh)
        elif request.auth is None:
            self.permission_denied(request)
        else:
            session = _session(request)
        end_session(session, "signed_out", session.user, request)
        return Response(status=204)


class MeView(_NeverKept):
    @extend_schema(operation_id="who_am_i", summary="Who I am", tags=_TAGS, responses=MeSerializer)
    def get(self, request: Request) -> Response:
        """The account, what it may do, and the session that asks."""
        context = {"session": _session(request), "environment": settings.ENVIRONMENT.name}
        return Response(MeSerializer(cast(User, request.user), context=context).data)


class SessionsView(_NeverKept):
    @extend_schema(
        operation_id="list_sessions",
        summary="Where I am signed in",
        tags=_TAGS,
        responses=SessionSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Own sessions that are open, of browsers and programs, the newest first."""
        rows = Session.objects.active().filter(user=_session(request).user).order_by("-created_at")
        context = {"session": _session(request)}
        return Response(SessionSerializer(rows[:_MOST_SESSIONS], many=True, context=context).data)


class SessionView(_NeverKept):
    @extend_schema(
        operation_id="end_session",
        summary="End one of my sessions",
        tags=_TAGS,
        responses={204: _ENDED},
    )
    def delete(self, request: Request, id: uuid.UUID) -> Response:
        """End it, wherever it is; also the one that asks."""
        rows = Session.objects.active().select_related("user").filter(user=_session(request).user)
        session = rows.filter(pk=id).first()
        if session is None:
            raise NotFound("You have no such session, or it is over.")
        end_session(session, "ended_by_user", session.user, request)
        return Response(status=204)
