"""Backups in a storage: whole or not at all, here and on a storage that has no file system."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage, InMemoryStorage

from dbops.backups.codec import compress, decompress
from dbops.backups.manifest import Manifest, decode_manifest, encode_manifest
from dbops.backups.store import BackupStore
from dbops.exceptions import BackupInvalidError, BackupNotFoundError, StorageWriteError
from tests.s3_server import S3Server

KEY, OLD_KEY = b"k" * 32, b"o" * 32


def _manifest(name: str = "a.dump.zst") -> Manifest:
    fingerprint = {
        "tables": {"public.a": 3}, "unvalidated": [], "invalid_indexes": [],
        "sequences_behind": ["public.a.id"], "extensions": [], "trigger_digest": "",
    }  # fmt: skip
    return Manifest(
        name=name, environment="dev", database="d", created_at="2026-01-01T00:00:00+00:00",
        seconds=1.0, size=3, sha256="0" * 64, encrypted=False, server_version="18.4",
        server_major=18, dump_version=18, fingerprint=fingerprint, owners=["zoë"], grantees=[],
        migrations=[], actor="ada", operation="0" * 12,
    )  # fmt: skip


@pytest.fixture(params=["files", "remote", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BackupStore:
    if request.param == "remote":
        return BackupStore(InMemoryStorage(), (KEY, OLD_KEY))
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return BackupStore(server.storage(), (KEY, OLD_KEY))
    directory = tmp_path / "b"
    return BackupStore(FileSystemStorage(location=directory), (KEY, OLD_KEY), directory)


def test_what_is_written_is_read(store: BackupStore) -> None:
    store.write("a.dump.zst", iter([b"one", b"two" * 100_000]), operation="0" * 12)
    assert store.names() == []
    with pytest.raises(BackupNotFoundError):
        store.read_manifest("a.dump.zst")
    store.seal(_manifest())
    assert store.names() == ["a.dump.zst"]
    assert store.read_manifest("a.dump.zst") == _manifest()
    with store.reading("a.dump.zst") as chunks:
        assert b"".join(chunks) == b"one" + b"two" * 100_000
    with pytest.raises(StorageWriteError, match="exists"):
        store.write("a.dump.zst", [b""], operation="0" * 12)


def test_the_longest_name_can_be_sealed(store: BackupStore) -> None:
    name = "n" * 181
    store.write(name, [b"x"], operation="0" * 12)
    store.seal(_manifest(name))
    assert store.names() == [name]


def test_a_dump_that_fails_leaves_nothing(store: BackupStore) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * 1_000_000
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write("a.dump.zst", failing(), operation="0" * 12)
    assert not store.storage.exists("a.dump.zst")
    assert store.leftovers() == {}


def test_what_is_deleted_is_gone(store: BackupStore) -> None:
    for name in ("a.dump.zst", "b.dump.zst"):
        store.write(name, [b"x"], operation="0" * 12)
        store.seal(_manifest(name))
    store.delete("a.dump.zst")
    assert store.names() == ["b.dump.zst"]
    assert not store.storage.exists("a.dump.zst")
    with pytest.raises(BackupNotFoundError):
        store.read_manifest("a.dump.zst")
    with pytest.raises(BackupNotFoundError), store.reading("a.dump.zst") as chunks:
        next(chunks)


@pytest.mark.parametrize("encryption", ["", ".age", ".gpg"])
def test_an_archive_without_a_manifest_is_a_leftover(store: BackupStore, encryption: str) -> None:
    name = f"dev-20260101T000000Z-0123456789ab.dump.zst{encryption}"
    for each in (name, "of-a-name-somebody-chose"):
        store.write(each, [b"x"], operation="0123456789ab")
    assert store.leftovers() == {name: "0123456789ab"}
    store.remove_leftover(name)
    store.remove_leftover("of-a-name-somebody-chose")
    assert store.leftovers() == {}
    assert store.storage.exists("of-a-name-somebody-chose")


def test_what_was_sealed_is_no_leftover(store: BackupStore) -> None:
    name = "dev-20260101T000000Z-0123456789ab.dump.zst"
    store.write(name, [b"x"], operation="0123456789ab")
    store.seal(_manifest(name))
    assert store.leftovers() == {}
    store.remove_leftover(name)
    assert store.names() == [name]


def test_a_rotated_key_still_verifies() -> None:
    data = encode_manifest(_manifest(), OLD_KEY)
    assert decode_manifest(data, (KEY, OLD_KEY), "a.dump.zst") == _manifest()
    with pytest.raises(BackupInvalidError):
        decode_manifest(data, (KEY,), "a.dump.zst")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"\x00", b'{"hmac": 1}', b'{"hmac": "", "format": "x"}']
)
def test_nonsense_is_no_manifest(data: bytes) -> None:
    with pytest.raises(BackupInvalidError):
        decode_manifest(data, (KEY,), "a")


def test_every_field_is_signed() -> None:
    content = json.loads(encode_manifest(_manifest(), KEY))
    for name in set(content) - {"hmac"}:
        forged = {**content, name: "other"}
        with pytest.raises(BackupInvalidError):
            decode_manifest(json.dumps(forged).encode(), (KEY,), "a.dump.zst")


def test_a_manifest_of_another_backup_is_refused() -> None:
    with pytest.raises(BackupInvalidError, match="describes"):
        decode_manifest(encode_manifest(_manifest(), KEY), (KEY,), "b.dump.zst")


def test_compression_notices_damage() -> None:
    packed = b"".join(compress([b"abc" * 50_000]))
    assert b"".join(decompress([packed])) == b"abc" * 50_000
    with pytest.raises(BackupInvalidError, match="truncated"):
        b"".join(decompress([packed[:-5]]))
    flipped = bytearray(packed)
    flipped[len(flipped) // 2] ^= 1
    with pytest.raises(BackupInvalidError):
        b"".join(decompress([bytes(flipped)]))
