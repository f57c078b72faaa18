"""Backups in a bucket that speaks S3: streamed there and back, never whole in memory or on a disk.

The account needs ListBucket and ListBucketMultipartUploads on the bucket; GetObject, PutObject,
DeleteObject and AbortMultipartUpload on what lies in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error
from botocore import exceptions as botocore
from botocore.config import Config
from botocore.parsers import ResponseParserError
from storages.backends.s3 import S3Storage

_PART = 8 << 20
"""Bytes of one part of an upload, and what an upload takes of memory. All have the same size: not
every server that speaks S3 takes parts that grow."""
_MOST_PARTS = 10_000
"""S3's own limit (docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html): 84 GB of ours."""
_GONE = ("NoSuchKey", "NoSuchUpload")
_ANSWERS = {
    "NoSuchBucket": "does not exist",
    "AccessDenied": "refuses access",
    "403": "refuses access",
    "InvalidAccessKeyId": "does not know this access key",
    "SignatureDoesNotMatch": "refuses the secret key",
    "ExpiredToken": "refuses a session token that has expired",
}
_FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (botocore.NoCredentialsError, "is out of reach: no credentials are set"),
    (botocore.PartialCredentialsError, "is out of reach: the credentials are incomplete"),
    (botocore.SSLError, "has no certificate that is trusted here"),
    (botocore.ResponseStreamingError, "broke off in the middle"),
    (botocore.IncompleteReadError, "broke off in the middle"),
    (botocore.ConnectionError, "does not answer"),
    (botocore.HTTPClientError, "does not answer"),
    (ResponseParserError, "does not speak S3"),
)


class S3BackupStorage(S3Storage):  # type: ignore[misc]
    """django-storages' S3 storage whose every error is an OSError that names the bucket.

    All threads use the client of the first: a client may be shared and takes megabytes.
    """

    def get_default_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = super().get_default_settings()
        return settings | {
            "file_overwrite": True,  # the store refuses names that exist; none may be changed
            "client_config": Config(
                connect_timeout=10, read_timeout=30,
                retries={"mode": "standard", "total_max_attempts": 5},
            ),
        }  # fmt: skip

    @property
    def _client(self) -> Any:
        return self.bucket.meta.client

    def _key(self, name: str) -> str:
        return str(self._normalize_name(name))

    def _directory(self, name: str) -> str:
        """What every key below it begins with."""
        key = self._key(name)
        return key if not key or key.endswith("/") else f"{key}/"

    def exists(self, name: str) -> bool:
        # Not by HEAD: without a body it cannot tell a missing bucket from a missing object.
        key = self._key(name)
        first = next(self._pages("list_objects_v2", Prefix=key, MaxKeys=1))
        return any(entry["Key"] == key for entry in first.get("Contents", ()))

    def listdir(self, name: str) -> tuple[list[str], list[str]]:
        prefix = self._directory(name)
        directories: list[str] = []
        files: list[str] = []
        for page in self._pages("list_objects_v2", Prefix=prefix, Delimiter="/"):
            directories += [found["Prefix"] for found in page.get("CommonPrefixes", ())]
            files += [found["Key"] for found in page.get("Contents", ()) if found["Key"] != prefix]
        return (
            [each.removeprefix(prefix).rstrip("/") for each in directories],
            [each.removeprefix(prefix) for each in files],
        )

    def _save(self, name: str, content: Any) -> str:
        # Not by boto3's upload_fileobj: it reads a stream to its end before it tells of a part
        # that failed at the beginning, which may be hours.
        where = {"Bucket": self.bucket_name, "Key": self._key(name)}
        kind = {"ContentType": self.default_content_type, **self.get_object_parameters(name)}
        parts = iter(lambda: content.read(_PART), b"")
        with self._telling():
            first = next(parts, b"")
            if len(first) < _PART:
                self._client.put_object(**where, **kind, Body=first)
                return name
            begun = self._client.create_multipart_upload(**where, **kind, **self._checksum)
            upload = where | {"UploadId": begun["UploadId"]}
            try:
                sent = [self._send(upload, 1, first)]
                del first  # what was sent must not stay in memory
                for part in parts:
                    sent.append(self._send(upload, len(sent) + 1, part))
                    del part
                self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent})
            except BaseException:
                with suppress(OSError), self._telling():  # if the server is gone: for a sweep
                    self._client.abort_multipart_upload(**upload)
                raise
        return name

    def _send(self, upload: Mapping[str, str], number: int, part: bytes) -> dict[str, Any]:
        if number > _MOST_PARTS:
            raise OSError(self._sentence(f"takes archives of {_MOST_PARTS * _PART} bytes at most"))
        answer = self._client.upload_part(**upload, **self._checksum, PartNumber=number, Body=part)
        proofs = {key: answer[key] for key in answer if key == "ETag" or "Checksum" in key}
        return {"PartNumber": number} | proofs

    @property
    def _checksum(self) -> dict[str, str]:
        """As boto3 itself: every part with its checksum, unless botocore's settings say no."""
        wanted = self._client.meta.config.request_checksum_calculation == "when_supported"
        return {"ChecksumAlgorithm": "CRC32"} if wanted else {}

    def delete(self, name: str) -> None:
        with self._telling():  # not by the base class, to which a missing bucket is no error
            self._client.delete_object(Bucket=self.bucket_name, Key=self._key(name))

    def size(self, name: str) -> int:
        with self._telling():
            return int(super().size(name))

    def get_modified_time(self, name: str) -> datetime:
        with self._telling():
            return cast(datetime, super().get_modified_time(name))

    def _open(self, name: str, mode: str = "rb") -> Any:
        with self._telling():
            return super()._open(name, mode)

    def read_chunks(self, name: str, size: int) -> Iterator[bytes]:
        """The object as it comes over the wire, at most ``size`` bytes at a time.

        Raises:
            FileNotFoundError: there is none. OSError: it cannot be read, or not to its end.
        """
        with self._telling():
            answer = self._client.get_object(Bucket=self.bucket_name, Key=self._key(name))
            with closing(answer["Body"]) as body:
                while chunk := body.read(size):
                    yield chunk

    def unfinished(self) -> list[str]:
        """Names whose upload has begun and neither ended nor failed. Raises OSError."""
        prefix = self._directory("")
        names = {upload["Key"].removeprefix(prefix) for upload in self._uploads(prefix)}
        return sorted(name for name in names if "/" not in name)

    def abandon(self, name: str) -> None:
        """End uploads of ``name`` that nobody finishes and drop what they sent. Raises OSError."""
        key = self._key(name)
        for upload in self._uploads(key):
            if upload["Key"] == key:
                with suppress(FileNotFoundError), self._telling():
                    self._client.abort_multipart_upload(
                        Bucket=self.bucket_name, Key=key, UploadId=upload["UploadId"]
                    )

    def _uploads(self, prefix: str) -> Iterator[dict[str, Any]]:
        for page in self._pages("list_multipart_uploads", Prefix=prefix):
            yield from page.get("Uploads", ())

    def _pages(self, question: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        with self._telling():
            pages = self._client.get_paginator(question).paginate(
                Bucket=self.bucket_name, **arguments
            )
            for page in pages:
                # Any page of a web server would pass for an empty list, and an empty list for
                # a storage without backups.
                if "Name" not in page and "Bucket" not in page:
                    raise ResponseParserError(question)
                yield page

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Errors of botocore as OSError. Never their own words, which may quote a request."""
        try:
            yield
        except botocore.ClientError as error:
            code = re.sub(r"\W", "", str(error.response.get("Error", {}).get("Code") or ""))[:40]
            code = code or str(error.response["ResponseMetadata"]["HTTPStatusCode"])
            kind = FileNotFoundError if code in _GONE else OSError
            raise kind(self._sentence(_ANSWERS.get(code, f"answers {code}"))) from error
        except (botocore.BotoCoreError, Boto3Error, ResponseParserError) as error:
            known = (words for family, words in _FAILURES if isinstance(error, family))
            words = next(known, f"failed ({type(error).__name__})")
            raise OSError(self._sentence(words)) from error

    def _sentence(self, words: str) -> str:
        host = urlsplit(self.endpoint_url or "").netloc.rpartition("@")[2] or "Amazon S3"
        return f"bucket {self.bucket_name} at {host} {words}"
