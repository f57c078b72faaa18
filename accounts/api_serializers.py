"""What the API of accounts reads and answers."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import Session, User

_LONGEST_NAME, _LONGEST_PASSWORD, _LONGEST_TOKEN = 150, 4096, 8192
_LONGEST_CODE = 40


class CredentialsSerializer(serializers.Serializer[Any]):
    username = serializers.CharField(max_length=_LONGEST_NAME)
    password = serializers.CharField(
        max_length=_LONGEST_PASSWORD, trim_whitespace=False, write_only=True
    )
    otp = serializers.CharField(
        max_length=_LONGEST_CODE,
        required=False,
        write_only=True,
        help_text="A code of the second factor, of accounts that have one; or a recovery code.",
    )


class PairSerializer(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="For the header Authorization: Bearer; five minutes.")
    refresh = serializers.CharField(help_text="For one exchange into the next two.")


class RefreshSerializer(serializers.Serializer[Any]):
    refresh = serializers.CharField(max_length=_LONGEST_TOKEN)


class LogoutSerializer(serializers.Serializer[Any]):
    refresh = serializers.CharField(
        max_length=_LONGEST_TOKEN,
        required=False,
        help_text="Instead of an access token in the header.",
    )


class TokenSerializer(serializers.Serializer[Any]):
    token = serializers.CharField(max_length=_LONGEST_TOKEN)


class VerifiedSerializer(serializers.Serializer[Any]):
    token_type = serializers.ChoiceField(choices=["access", "refresh"])
    expires_at = serializers.DateTimeField()


class SessionSerializer(serializers.ModelSerializer[Session]):
    current = serializers.SerializerMethodField(help_text="Whether it is the one that asks.")

    class Meta:
        model = Session
        fields = [
            "id", "door", "address", "device", "created_at", "last_seen_at", "expires_at",
            "current",
        ]  # fmt: skip
        read_only_fields = fields

    def get_current(self, session: Session) -> bool:
        return bool(session.pk == self.context["session"].pk)


class MeSerializer(serializers.ModelSerializer[User]):
    full_name = serializers.CharField(source="get_full_name", read_only=True)
    roles: Any = serializers.SlugRelatedField(
        source="groups", slug_field="name", many=True, read_only=True
    )
    permissions = serializers.SerializerMethodField()
    environment = serializers.SerializerMethodField(help_text="Whose account this is.")
    session = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = [
            "id", "username", "email", "full_name", "is_staff", "is_superuser", "roles",
            "permissions", "environment", "session",
        ]  # fmt: skip
        read_only_fields = fields

    def get_permissions(self, user: User) -> list[str]:
        return sorted(user.get_all_permissions())

    def get_environment(self, user: User) -> str:
        return str(self.context["environment"])

    @extend_schema_field(SessionSerializer)
    def get_session(self, user: User) -> Any:
        return SessionSerializer(self.context["session"], context=self.context).data
