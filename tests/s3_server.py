"""A real server that speaks S3 (moto's), as a process of its own that can be killed."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

if TYPE_CHECKING:
    from dbops.backups.s3 import S3BackupStorage

ACCESS_KEY = "AKIAOFTHETESTS"
SECRET_KEY = "canary-of-the-secret-key"


def free_port() -> int:
    """A port of the loopback nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def location(port: int, bucket: str) -> dict[str, str]:
    """The variables of an installation whose backups lie in that bucket."""
    return {
        "BACKUP_STORAGE_URL": f"s3://{bucket}/some/prefix?endpoint_url=http://127.0.0.1:{port}"
        "&region_name=eu-central-1",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }


@dataclass(frozen=True)
class S3Server:
    """One running server."""

    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[S3Server]:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_until_it_answers(f"http://127.0.0.1:{port}/moto-api/", process)
            yield cls(port, process)
        finally:
            process.kill()
            process.wait()

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="eu-central-1",
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        )  # fmt: skip

    def create_bucket(self) -> str:
        name = f"backups-{secrets.token_hex(4)}"
        self.client.create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        return name

    def storage(self) -> S3BackupStorage:
        """Ours, on a bucket of its own."""
        from dbops.backups.s3 import S3BackupStorage  # needs settings, which come later

        return S3BackupStorage(
            bucket_name=self.create_bucket(), endpoint_url=f"http://127.0.0.1:{self.port}",
            access_key=ACCESS_KEY, secret_key=SECRET_KEY,
        )  # fmt: skip

    def keys(self, bucket: str) -> list[str]:
        """Everything that lies in a bucket."""
        found = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return [entry["Key"] for entry in found]

    def uploads(self, bucket: str) -> list[str]:
        """Keys whose upload has begun and not ended."""
        found = self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return [entry["Key"] for entry in found]


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, "the S3 server did not start"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.1)
