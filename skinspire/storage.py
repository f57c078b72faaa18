"""``STORAGES["dbbackup"]`` from ``BACKUP_STORAGE_URL``: a directory, or a bucket that speaks S3."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import environ

from skinspire.variables import read_secret

FILES = "django.core.files.storage.FileSystemStorage"
S3 = "dbops.backups.s3.S3BackupStorage"
_OPTIONS = {"endpoint_url", "region_name"}
# What botocore accepts, so that a name it would refuse is refused at the start.
_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,255}")
_REGION = re.compile(r"[A-Za-z0-9-]{1,63}")


class MalformedStorageUrl(ValueError):
    """A ``BACKUP_STORAGE_URL`` that names no storage we know, or names credentials."""


def backup_storage(env: environ.Env, home: Path) -> dict[str, Any]:
    """Where backups lie; the directory ``backups`` in ``home`` unless a URL says otherwise.

    Raises:
        MalformedStorageUrl: the URL, or credentials of which a half is missing.
    """
    url = read_secret(env, "BACKUP_STORAGE_URL")
    storage = storage_from_url(url) if url else _files(home / "backups")
    if storage["BACKEND"] == S3:
        storage["OPTIONS"] |= _credentials(env)
    return storage


def storage_from_url(url: str) -> dict[str, Any]:
    """Django's settings for ``file:///directory`` or
    ``s3://bucket/prefix?endpoint_url=…&region_name=…``. The errors never show the value.

    Raises:
        MalformedStorageUrl: anything else, or S3 without the packages it needs.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
        if "@" in parts.netloc or "@" in urlsplit(options.get("endpoint_url", "")).netloc:
            raise MalformedStorageUrl("BACKUP_STORAGE_URL must not hold credentials.")
        storage = _from_parts(parts, options)
    except MalformedStorageUrl:
        raise
    except ValueError:
        storage = None
    if storage is None:
        raise MalformedStorageUrl(
            "BACKUP_STORAGE_URL must be file:///directory or "
            "s3://bucket/prefix?endpoint_url=…&region_name=…."
        )
    if storage["BACKEND"] == S3 and not (find_spec("storages") and find_spec("boto3")):
        raise MalformedStorageUrl(
            "BACKUP_STORAGE_URL names S3, whose packages are missing: "
            "pip install -r requirements-s3.txt"
        )
    return storage


def _from_parts(parts: SplitResult, options: dict[str, str]) -> dict[str, Any] | None:
    path = unquote(parts.path)
    if parts.fragment or "\0" in path or ".." in path.split("/"):
        return None
    if parts.scheme == "file" and not parts.netloc and path.strip("/") and not options:
        return _files(Path(path))
    if parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc) and _are_known(options):
        where = {"bucket_name": parts.netloc, "location": path.strip("/")}
        return {"BACKEND": S3, "OPTIONS": where | options}
    return None


def _are_known(options: dict[str, str]) -> bool:
    endpoint = urlsplit(options.get("endpoint_url", "https://s3"))
    return (
        options.keys() <= _OPTIONS
        and endpoint.scheme in ("http", "https")
        and bool(endpoint.hostname)
        and endpoint.port != 0  # the property raises ValueError for what is no port at all
        and not endpoint.query
        and bool(_REGION.fullmatch(options.get("region_name", "any")))
    )


def _files(directory: Path) -> dict[str, Any]:
    return {"BACKEND": FILES, "OPTIONS": {"location": str(directory)}}


def _credentials(env: environ.Env) -> dict[str, str]:
    """Those of the variables; where there are none boto3 looks in its own places."""
    access_key = read_secret(env, "AWS_ACCESS_KEY_ID")
    secret_key = read_secret(env, "AWS_SECRET_ACCESS_KEY")
    if bool(access_key) != bool(secret_key):
        raise MalformedStorageUrl("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together.")
    token = read_secret(env, "AWS_SESSION_TOKEN")
    given = {"access_key": access_key, "secret_key": secret_key, "security_token": token}
    return {option: value for option, value in given.items() if value}
