"""Backups in a bucket: the same promises as on a disk, kept against a real server."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dbops.backups.s3 import S3BackupStorage
from dbops.backups.store import BackupStore
from dbops.exceptions import StorageReadError, StorageWriteError
from tests.installation import Installation
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, free_port, location

MEGABYTE = 1 << 20
NAME = "dev-20260101T000000Z-0123456789ab.dump.zst"


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.create_bucket()


@pytest.fixture
def store(s3: S3Server, bucket: str) -> BackupStore:
    return _store(s3.port, bucket)


@pytest.fixture
def at_s3(installation18: Installation, s3: S3Server, bucket: str) -> Installation:
    """An installation whose backups lie in ``bucket``; test holds something."""
    installation18.variables |= location(s3.port, bucket)
    return _prepared(installation18)


def _store(port: int, bucket: str) -> BackupStore:
    storage = S3BackupStorage(
        bucket_name=bucket, location="some/prefix", access_key=ACCESS_KEY, secret_key=SECRET_KEY,
        endpoint_url=f"http://127.0.0.1:{port}",
    )  # fmt: skip
    return BackupStore(storage, (b"k" * 32,))


def _prepared(installation: Installation) -> Installation:
    installation.result("init_db", "--env", "test")
    installation.sql(
        "test",
        """CREATE TABLE public.patients AS
           SELECT g AS id, md5(g::text) AS name FROM generate_series(1, 5000) g""",
    )
    return installation


def _make_large(installation: Installation, megabytes: int) -> None:
    """Rows that no compression makes much smaller: about as many megabytes of archive."""
    installation.sql(
        "test",
        f"""CREATE TABLE public.noise AS
            SELECT string_agg(sha512((random()::text || g || i)::bytea), '') AS x
              FROM generate_series(1, {megabytes}) g, generate_series(1, 16384) i GROUP BY g""",
    )


def _assert_failed_without_a_trace(installation: Installation) -> None:
    last = installation.result("operations")["operations"][0]
    assert (last["kind"], last["status"]) == ("backup", "failed")
    installation.variables.pop("BACKUP_STORAGE_URL")  # the catalogue, whatever the storage says
    assert installation.result("listbackups")["backups"] == []
    journal = (installation.home / "journal.jsonl").read_text()
    assert '"failed"' in journal
    assert SECRET_KEY not in journal


def _wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_there_and_back(at_s3: Installation, s3: S3Server, bucket: str, tmp_path: Path) -> None:
    before = at_s3.hashes("test")
    secret = tmp_path / "secret"
    secret.write_text(at_s3.variables.pop("AWS_SECRET_ACCESS_KEY") + "\n")
    at_s3.variables["AWS_SECRET_ACCESS_KEY_FILE"] = str(secret)
    name = at_s3.result("dbbackup", "-d", "test")["name"]
    assert [item["name"] for item in at_s3.result("listbackups")["backups"]] == [name]
    assert s3.keys(bucket) == [f"some/prefix/{name}", f"some/prefix/{name}.metadata"]
    assert not (at_s3.home / "backups").exists()
    at_s3.sql("test", "DROP TABLE public.patients")
    at_s3.result("dbrestore", "-d", "test", "-i", name, "--noinput")
    assert at_s3.hashes("test") == before
    assert at_s3.refused("dbbackup", "-d", "test", "-o", name)["message"].endswith(
        "exists already."
    )


def test_a_large_archive_takes_little_memory(
    at_s3: Installation, s3: S3Server, bucket: str
) -> None:
    _make_large(at_s3, 96)
    process = at_s3.start("dbbackup", "-d", "test")
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except FileNotFoundError:
            break
        peak = max([peak] + [int(line.split()[1]) for line in status.splitlines()
                             if line.startswith("VmHWM")])  # fmt: skip
        time.sleep(0.05)
    _, err = process.communicate()
    assert process.returncode == 0, err
    sizes = [item["Size"] for item in s3.client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert max(sizes) > 90 * MEGABYTE
    assert 0 < peak < 150 * 1024  # kilobytes


def test_a_missing_bucket_is_named(installation18: Installation, s3: S3Server) -> None:
    installation18.variables |= location(s3.port, "nowhere")
    _prepared(installation18)
    for command in (["dbbackup", "-d", "test"], ["dbrestore", "-d", "test", "-i", NAME]):
        error = installation18.refused(*command, *(["--noinput"] if "-i" in command else []))
        assert error["code"] == "storage"
        assert f"bucket nowhere at 127.0.0.1:{s3.port} does not exist" in error["message"]
    installation18.variables.pop("BACKUP_STORAGE_URL")
    assert installation18.result("listbackups")["backups"] == []


def test_a_catalogue_survives_a_storage_that_is_away(at_s3: Installation) -> None:
    name = at_s3.result("dbbackup", "-d", "test")["name"]
    url = at_s3.variables["BACKUP_STORAGE_URL"]
    port = free_port()
    at_s3.variables |= location(port, "away")
    swept = at_s3.result("operations", "sweep")
    assert f"127.0.0.1:{port} does not answer" in swept["unreachable"][0]
    assert at_s3.result("listbackups")["backups"][0]["name"] == name
    at_s3.variables["BACKUP_STORAGE_URL"] = url
    assert [item["name"] for item in at_s3.result("listbackups")["backups"]] == [name]


def test_the_server_dies_in_mid_upload(installation18: Installation) -> None:
    with S3Server.running() as own:
        bucket = own.create_bucket()
        installation18.variables |= location(own.port, bucket)
        _prepared(installation18)
        _make_large(installation18, 96)
        process = installation18.start("dbbackup", "-d", "test")
        _wait_for(lambda: own.uploads(bucket))
        own.process.kill()
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert f"bucket {bucket} at 127.0.0.1:{own.port} does not answer" in err
    _assert_failed_without_a_trace(installation18)


def test_kill_9_in_mid_upload_and_a_sweep(at_s3: Installation, s3: S3Server, bucket: str) -> None:
    _make_large(at_s3, 96)
    process = at_s3.start("dbbackup", "-d", "test")
    _wait_for(lambda: s3.uploads(bucket))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(s3.uploads(bucket)) == 1
    swept = at_s3.result("operations", "sweep")
    assert len(swept["interrupted"]) == 1
    assert len(swept["files"]) == 1
    assert (s3.uploads(bucket), s3.keys(bucket)) == ([], [])
    assert at_s3.result("listbackups")["backups"] == []


def test_a_signal_in_mid_upload_leaves_nothing(
    at_s3: Installation, s3: S3Server, bucket: str
) -> None:
    _make_large(at_s3, 96)
    process = at_s3.start("dbbackup", "-d", "test")
    _wait_for(lambda: s3.uploads(bucket))
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert (s3.uploads(bucket), s3.keys(bucket)) == ([], [])
    assert at_s3.result("operations")["operations"][0]["status"] == "cancelled"


@contextmanager
def _answering(
    code: int, headers: dict[str, str], body: bytes, reads: bytes = b""
) -> Iterator[int]:
    """A server with one answer to everything, or one to all that reads and one to all that
    writes, for what moto never says; its port."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if reads and self.command == "GET":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(reads)
                return
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

        def log_message(self, *arguments: object) -> None:
            """Not into the tests' output."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _refusal(code: str) -> bytes:
    # A server that says all it knows: none of its words may be repeated.
    return (f"<Error><Code>{code}</Code><Message>{SECRET_KEY} is wrong</Message></Error>").encode()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("SignatureDoesNotMatch", "refuses the secret key"),
        ("InvalidAccessKeyId", "does not know this access key"),
        ("AccessDenied", "refuses access"),
        ("Something-odd", "answers Somethingodd"),
    ],
)
def test_a_refusal_is_told_without_the_secret(
    installation18: Installation, code: str, words: str
) -> None:
    with _answering(403, {}, _refusal(code)) as port:
        _prepared(installation18)
        installation18.variables |= location(port, "theirs")
        answer = installation18.run("dbbackup", "-d", "test", "--json", code=1)
    assert answer.json["error"]["code"] == "storage"
    assert f"bucket theirs at 127.0.0.1:{port} {words}" in answer.json["error"]["message"]
    assert SECRET_KEY not in answer.out + answer.err
    _assert_failed_without_a_trace(installation18)


def test_no_s3_at_all_is_told() -> None:
    with (
        _answering(200, {"Content-Type": "text/html"}, b"<html>Welcome</html>") as port,
        pytest.raises(StorageReadError, match="bucket theirs"),
    ):
        _store(port, "theirs").names()
    with (
        _answering(404, {"Content-Type": "text/html"}, b"<html>Nothing here</html>") as port,
        pytest.raises(StorageReadError, match="answers 404"),
    ):
        _store(port, "theirs").names()


def test_a_download_that_breaks_off_is_told() -> None:
    with _answering(200, {"Content-Length": "1000"}, b"x" * 10) as port:
        store = _store(port, "theirs")
        with pytest.raises(StorageReadError, match="broke off"), store.reading("a") as chunks:
            list(chunks)


def test_a_dump_that_fails_ends_its_upload(store: BackupStore, s3: S3Server, bucket: str) -> None:
    seen = []

    def failing() -> Iterator[bytes]:
        for _ in range(40):
            yield os.urandom(MEGABYTE)
        _wait_for(lambda: s3.uploads(bucket))
        seen.extend(s3.uploads(bucket))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write(NAME, failing(), operation="0123456789ab")
    assert seen == [f"some/prefix/{NAME}"]
    assert (s3.uploads(bucket), s3.keys(bucket), store.leftovers()) == ([], [], {})


def test_many_parts_are_one_archive_and_too_many_are_none(
    store: BackupStore, s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = [os.urandom(MEGABYTE + 7) for _ in range(40)]
    store.write(NAME, chunks, operation="0123456789ab")
    with store.reading(NAME) as read:
        assert b"".join(read) == b"".join(chunks)
    monkeypatch.setattr("dbops.backups.s3._MOST_PARTS", 2)
    with pytest.raises(StorageWriteError, match="16777216 bytes at most"):
        store.write("another", chunks, operation="0123456789ab")
    assert s3.keys(bucket) == [f"some/prefix/{NAME}"]
    assert s3.uploads(bucket) == []


def test_a_refused_upload_stops_the_dump() -> None:
    produced = []

    def endless() -> Iterator[bytes]:
        while len(produced) < 1000:
            produced.append(1)
            yield bytes(MEGABYTE)

    nothing = b"<ListBucketResult><Name>theirs</Name></ListBucketResult>"
    with (
        _answering(403, {}, _refusal("AccessDenied"), reads=nothing) as port,
        pytest.raises(StorageWriteError, match="refuses access"),
    ):
        _store(port, "theirs").write("a", endless(), operation="0" * 12)
    assert len(produced) < 1000


def test_leftovers_are_found_and_removed(store: BackupStore, s3: S3Server, bucket: str) -> None:
    for name in (NAME, "named-by-somebody"):
        store.write(name, [b"x"], operation="0123456789ab")
    begun = "dev-20260101T000000Z-fedcba987654.dump.zst"
    for key in (f"some/prefix/{begun}", f"some/prefix/{NAME}.metadata", "elsewhere/" + NAME):
        s3.client.create_multipart_upload(Bucket=bucket, Key=key)
    assert store.leftovers() == {
        NAME: "0123456789ab", f"{NAME}.metadata": "0123456789ab", begun: "fedcba987654",
    }  # fmt: skip
    for name in store.leftovers():
        store.remove_leftover(name)
    assert store.leftovers() == {}
    assert s3.keys(bucket) == ["some/prefix/named-by-somebody"]
    assert s3.uploads(bucket) == ["elsewhere/" + NAME]
