"""Where backups lie, from ``BACKUP_STORAGE_URL``; what is wrong with it is said without it."""

from __future__ import annotations

from pathlib import Path

import environ
import pytest

from skinspire import storage, variables
from skinspire.storage import (
    FILES,
    S3,
    MalformedStorageUrl,
    backup_storage,
    storage_from_url,
)


def test_a_directory() -> None:
    expected = {"BACKEND": FILES, "OPTIONS": {"location": "/srv/the backups"}}
    assert storage_from_url("file:///srv/the%20backups") == expected


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://b-1", {"location": ""}),
        ("s3://b-1/a/b/", {"location": "a/b"}),
        ("s3://b-1/a?endpoint_url=http://h:9000", {"location": "a", "endpoint_url": "http://h:9000"}),
        ("s3://b-1?endpoint_url=https%3A%2F%2Fh&region_name=eu-1",
         {"location": "", "endpoint_url": "https://h", "region_name": "eu-1"}),
    ],
)  # fmt: skip
def test_a_bucket(url: str, options: dict[str, str]) -> None:
    assert storage_from_url(url) == {"BACKEND": S3, "OPTIONS": {"bucket_name": "b-1", **options}}


@pytest.mark.parametrize(
    "url",
    [
        "canary", "/canary", "ftp://canary/x", "s3:canary", "s3:///canary", "s3://",
        "s3://canary:99/x", "s3://c/../canary", "s3://canary/x#y", "s3://canary?secret=canary",
        "s3://canary?endpoint_url", "s3://canary?endpoint_url=canary",
        "s3://canary?endpoint_url=ftp://h", "s3://canary?endpoint_url=http://h:canary",
        "s3://canary?endpoint_url=", "s3://canary?region_name=ca/nary", "s3://[canary/x",
        "file://canary/x", "file:///", "file://", "file:///canary?x=y", "file:///canary/%00",
        "s3://user:canary@bucket/x", "s3://bucket?endpoint_url=http://user:canary@h",
    ],
)  # fmt: skip
def test_nonsense_and_credentials_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(MalformedStorageUrl, match="BACKUP_STORAGE_URL") as caught:
        storage_from_url(url)
    assert "canary" not in str(caught.value)


def test_without_its_packages_s3_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "find_spec", lambda _: None)
    with pytest.raises(MalformedStorageUrl, match=r"pip install -r requirements-s3\.txt"):
        storage_from_url("s3://bucket")
    assert storage_from_url("file:///srv")


def test_credentials_come_from_variables_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    env = environ.Env()
    assert backup_storage(env, tmp_path)["OPTIONS"] == {"location": str(tmp_path / "backups")}
    monkeypatch.setenv("BACKUP_STORAGE_URL", "s3://bucket")
    assert set(backup_storage(env, tmp_path)["OPTIONS"]) == {"bucket_name", "location"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary")
    with pytest.raises(MalformedStorageUrl, match="go together"):
        backup_storage(env, tmp_path)
    (tmp_path / "secret").write_text("hidden\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", str(tmp_path / "secret"))
    found = backup_storage(env, tmp_path)["OPTIONS"]
    assert (found["access_key"], found["secret_key"]) == ("canary", "hidden")
    monkeypatch.setattr(variables, "findings", [])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", str(tmp_path / "absent"))
    with pytest.raises(MalformedStorageUrl, match="go together"):
        backup_storage(env, tmp_path)
    assert [it.id for it in variables.findings] == ["dbops.E003"]
