"""Encryption of backups: opened by the right key alone, never half, never a secret in sight."""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest
from django.views.debug import SafeExceptionReporterFilter

from dbops.backups.encryption import (
    MAKE_KEY_PAIR,
    Keys,
    check_keys,
    decrypt,
    encrypt,
    encryption_of,
)
from dbops.exceptions import (
    BackupEncryptedError,
    BackupInvalidError,
    ConfigurationError,
    DbopsError,
    OperationCancelled,
    ToolError,
)
from tests.conftest import skip_or_fail

ROOT = Path(__file__).parents[1]
DATA = random.Random(3).randbytes(300_000)
PASSPHRASE = "canary sésame"


def pair() -> Keys:
    """A key pair of age."""
    identity = pyrage.x25519.Identity.generate()
    return Keys(recipients=(str(identity.to_public()),), identity=f"# mine\n{identity}\n")


def ssh_pair(directory: Path, kind: str, passphrase: str = "") -> Keys:
    if not shutil.which("ssh-keygen"):
        skip_or_fail("ssh-keygen is not installed")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(directory / kind)], check=True
    )
    public = (directory / f"{kind}.pub").read_text().strip()
    return Keys(recipients=(public,), identity=(directory / kind).read_text())


def gpg(home: Path, *arguments: str, data: bytes | None = None) -> bytes:
    argv = ["gpg", "--homedir", str(home), "--batch", "--pinentry-mode=loopback", *arguments]
    return subprocess.run(argv, input=data, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPG home with a key of open@x.org and one of locked@x.org; no agent runs in it."""
    if not shutil.which("gpg"):
        skip_or_fail("gpg is not installed")
    home = tmp_path_factory.mktemp("g")
    try:
        for user, secret in (("open@x.org", ""), ("locked@x.org", PASSPHRASE)):
            gpg(home, "--passphrase", secret, "--quick-gen-key", user, "future-default")
    finally:
        _end_agents([home])
    return home


@pytest.fixture
def keyrings(keyring: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """A copy of it, whose agent remembers no passphrase, and an empty home."""
    homes = [tmp_path_factory.mktemp("g") for _ in range(2)]  # short: an agent's socket lies there
    shutil.copytree(keyring, homes[0], dirs_exist_ok=True)
    try:
        yield homes
    finally:
        _end_agents(homes)


def _end_agents(homes: list[Path]) -> None:
    for home in homes:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


@pytest.fixture(params=["age", "gpg"])
def keys(request: pytest.FixtureRequest) -> Keys:
    if request.param == "age":
        return pair()
    homes: list[Path] = request.getfixturevalue("keyrings")
    return Keys(gpg_recipient="open@x.org", gpg_home=homes[0])


def opened(data: bytes, keys: Keys) -> bytes:
    return b"".join(decrypt([data], keys))


def refusal(kind: type[DbopsError], data: bytes, keys: Keys) -> tuple[DbopsError, bytes]:
    """The error, and what came out before it."""
    given: list[bytes] = []
    with pytest.raises(kind) as caught:
        given.extend(decrypt([data], keys))
    return caught.value, b"".join(given)


def pieces(data: bytes) -> Iterator[bytes]:
    """In chunks of every size, empty ones among them."""
    position, size = 0, 0
    while position < len(data):
        yield data[position : position + size]
        position, size = position + size, size * 3 % 70_001 + 1 if size else 1
        yield b""


# --- what goes in comes out -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 300_000])
def test_round_trip(keys: Keys, size: int) -> None:
    encrypted = b"".join(encrypt(pieces(DATA[:size]), keys))
    assert DATA[:64] not in encrypted
    assert encryption_of(encrypted[:64]) == keys.kind
    assert b"".join(decrypt(pieces(encrypted), keys)) == DATA[:size]


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_ssh_keys(tmp_path: Path, kind: str) -> None:
    keys = ssh_pair(tmp_path, kind)
    assert opened(b"".join(encrypt([DATA], keys)), keys) == DATA
    windows = replace(keys, identity=keys.identity.replace("\n", "\r\n").strip())
    assert opened(b"".join(encrypt([DATA], keys)), windows) == DATA


def test_each_of_several_recipients_opens_it(tmp_path: Path) -> None:
    holders = [pair(), pair(), ssh_pair(tmp_path, "ed25519")]
    together = Keys(recipients=tuple(holder.recipients[0] for holder in holders))
    encrypted = b"".join(encrypt([DATA], together))
    for holder in holders:
        assert opened(encrypted, holder) == DATA
    both = Keys(identity=f"{pair().identity}\n\n{holders[1].identity}")
    assert opened(encrypted, both) == DATA


def test_armor(keyrings: list[Path]) -> None:
    keys = pair()
    recipient = pyrage.x25519.Recipient.from_str(keys.recipients[0])
    armored = pyrage.encrypt(DATA, [recipient], armored=True)
    assert encryption_of(armored[:64]) == "age"
    assert opened(armored, keys) == DATA
    # As django-dbbackup's earlier backups are.
    armored = gpg(keyrings[0], "--armor", "-r", "open@x.org", "--encrypt", data=DATA)
    assert encryption_of(armored[:64]) == "gpg"
    assert opened(armored, Keys(gpg_home=keyrings[0])) == DATA


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"PGDMP\x01\x0f", b"\x28\xb5\x2f\xfd" * 99, b"\x1f\x8b\x08", b"--\n-- PostgreSQL",
     b"toc.dat" + bytes(500), "CREATE TABLE ä".encode(), b"\xef\xbb\xbfSELECT 1", DATA],
)  # fmt: skip
def test_what_is_not_encrypted_passes_as_it_is(data: bytes) -> None:
    assert encryption_of(data[:64]) == ""
    assert b"".join(decrypt(pieces(data), Keys())) == data


def test_age_comes_before_gpg() -> None:
    assert Keys(recipients=("age1",), gpg_recipient="x").kind == "age"
    assert Keys(gpg_recipient="x").kind == "gpg"
    assert not Keys(identity="x").can_encrypt
    with pytest.raises(ConfigurationError, match="nobody") as caught:
        encrypt([DATA], Keys())
    assert "BACKUP_RECIPIENTS" in caught.value.hint


# --- wrong, missing and malformed keys ------------------------------------------------------------


def test_a_missing_identity_is_named() -> None:
    error, given = refusal(BackupEncryptedError, b"".join(encrypt([DATA], pair())), Keys())
    assert error.code == "wrong_key"
    assert "BACKUP_IDENTITY_FILE" in error.hint
    assert given == b""


def test_a_wrong_identity_is_told_without_naming_any_key(tmp_path: Path) -> None:
    keys, others = pair(), [pair(), ssh_pair(tmp_path, "ed25519")]
    for other in others:
        error, given = refusal(BackupEncryptedError, b"".join(encrypt([DATA], keys)), other)
        told = "".join(traceback.format_exception(error)) + error.hint
        assert "does not open this backup" in told
        assert given == b""
        assert "SECRET-KEY" not in told
        assert all(key not in told for key in keys.recipients + other.recipients)


def test_a_key_that_gpg_lacks(keyrings: list[Path]) -> None:
    full, empty = keyrings
    for_open = b"".join(encrypt([DATA], Keys(gpg_recipient="open@x.org", gpg_home=full)))
    locked = Keys(gpg_recipient="locked@x.org", gpg_home=full)
    for_locked = b"".join(encrypt([DATA], locked))
    for data, wrong in (
        (for_open, Keys(gpg_home=empty)),
        (for_locked, locked),
        (for_locked, replace(locked, gpg_passphrase="another")),
    ):
        error, given = refusal(BackupEncryptedError, data, wrong)
        assert given == b""
        assert "BACKUP_GPG_PASSPHRASE_FILE" in error.hint
        assert "x.org" not in "".join(traceback.format_exception(error))
    assert opened(for_locked, replace(locked, gpg_passphrase=PASSPHRASE)) == DATA


def test_the_passphrase_is_seen_by_no_other_process(keyrings: list[Path]) -> None:
    keys = Keys(gpg_recipient="locked@x.org", gpg_home=keyrings[0], gpg_passphrase=PASSPHRASE)
    # More than a pipe holds: gpg is still there once its first chunk is.
    encrypted = b"".join(encrypt([DATA * 20], keys))
    stream = decrypt(pieces(encrypted), keys)
    next(stream)
    children = [pid for pid in Path("/proc").iterdir() if _parent(pid) == os.getpid()]
    started = [pid for pid in children if "gpg" in (pid / "comm").read_text()]
    assert started
    for pid in started:
        assert b"canary" not in (pid / "cmdline").read_bytes() + (pid / "environ").read_bytes()
    assert len(b"".join(stream)) > 0
    assert not any((pid / "comm").exists() for pid in started)


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def test_a_recipient_gpg_does_not_know_or_trust(keyrings: list[Path]) -> None:
    full, other = keyrings
    gpg(other, "--import", data=gpg(full, "--export", "open@x.org"))
    keys = Keys(gpg_recipient="open@x.org", gpg_home=other)
    for unknown in ("nobody@x.org", "--list-keys"):
        with pytest.raises(ConfigurationError, match="DBBACKUP_GPG_RECIPIENT"):
            list(encrypt([DATA * 9], replace(keys, gpg_recipient=unknown)))
    with pytest.raises(ConfigurationError) as caught:
        list(encrypt([DATA * 9], keys))
    assert "DBBACKUP_GPG_ALWAYS_TRUST" in caught.value.hint
    trusting = b"".join(encrypt([DATA], replace(keys, gpg_always_trust=True)))
    assert opened(trusting, Keys(gpg_home=full)) == DATA


def test_gpg_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolError, match="gpg cannot be started") as caught:
        list(encrypt([DATA], Keys(gpg_recipient="open@x.org")))
    assert "Install GnuPG" in caught.value.hint


@pytest.mark.parametrize(
    "recipient", ["age1canary", "AGE-SECRET-KEY-1CANARY", "ssh-ed25519 canary", "ssh-dss canary",
                  "canary\0", "canary\udc80", "canary" * 100_000],
)  # fmt: skip
def test_a_malformed_recipient_is_told_without_it(recipient: str) -> None:
    keys = Keys(recipients=(pair().recipients[0], recipient))
    with pytest.raises(ConfigurationError, match="Recipient 2 of BACKUP_RECIPIENTS") as caught:
        encrypt([DATA], keys)
    assert "canary" not in "".join(traceback.format_exception(caught.value)).lower()
    with pytest.raises(ConfigurationError):
        check_keys(keys)


@pytest.mark.parametrize("identity", ["AGE-SECRET-KEY-1CANARY", "canary", "canary\udc80",
                                      "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary"])  # fmt: skip
def test_a_malformed_identity_is_told_without_it(identity: str) -> None:
    encrypted = b"".join(encrypt([DATA], pair()))
    error, _ = refusal(ConfigurationError, encrypted, Keys(identity=identity))
    assert "BACKUP_IDENTITY" in str(error)
    assert "canary" not in "".join(traceback.format_exception(error)).lower()


def test_an_ssh_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="BACKUP_IDENTITY") as caught:
        check_keys(ssh_pair(tmp_path, "ed25519", "canary"))
    assert "passphrase" in caught.value.hint


def test_secrets_do_not_show() -> None:
    assert "canary" not in repr(Keys(identity="canary", gpg_passphrase="canary"))
    cleanse = SafeExceptionReporterFilter().cleanse_setting
    for name in ("BACKUP_SECRET_IDENTITY", "BACKUP_GPG_PASSPHRASE"):
        assert cleanse(name, "canary") != "canary"


# --- damage ---------------------------------------------------------------------------------------


def test_truncation_is_noticed(keys: Keys) -> None:
    encrypted = b"".join(encrypt([DATA], keys))
    cuts = [len(encrypted) * tenth // 10 for tenth in range(1, 10)] + [100, len(encrypted) - 1]
    for cut in cuts:
        _, given = refusal(BackupInvalidError, encrypted[:cut], keys)
        assert DATA.startswith(given)


def test_one_flipped_bit_is_noticed(keys: Keys) -> None:
    encrypted = b"".join(encrypt([DATA], keys))
    content = len(encrypted) - len(DATA)  # nothing before it belongs to the header
    for position in random.Random(5).sample(range(content, len(encrypted)), 12):
        flipped = bytearray(encrypted)
        flipped[position] ^= 1 << position % 8
        _, given = refusal(BackupInvalidError, bytes(flipped), keys)
        if keys.kind == "age":  # gpg checks at the end only
            assert DATA.startswith(given)


def test_no_flipped_bit_of_ages_header_goes_unnoticed() -> None:
    keys = pair()
    encrypted = b"".join(encrypt([b"x"], keys))
    for position in range(len(b"age-encryption.org/v"), len(encrypted)):
        flipped = bytearray(encrypted)
        flipped[position] ^= 1
        with pytest.raises((BackupInvalidError, BackupEncryptedError)):
            opened(bytes(flipped), keys)


def test_what_follows_the_end_is_noticed() -> None:
    keys = pair()
    for size in (1, 65_536):
        encrypted = b"".join(encrypt([DATA[:size]], keys))
        with pytest.raises(BackupInvalidError):
            opened(encrypted + b"more", keys)


def test_a_message_of_gpg_that_nobody_encrypted_is_refused(keyrings: list[Path]) -> None:
    """gpg --decrypt hands it out and ends with 0."""
    plain = gpg(keyrings[0], "--armor", "--store", data=DATA)
    with pytest.raises(BackupInvalidError):
        opened(plain, Keys(gpg_home=keyrings[0]))


# --- as a stream ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt("own"), InterruptedError(4, "own"),
                                   BackupInvalidError("own"), ValueError("own")])  # fmt: skip
@pytest.mark.parametrize("after", [0, 1, 20])
def test_an_error_of_the_source_arrives_as_it_is(
    keys: Keys, error: BaseException, after: int
) -> None:
    def failing() -> Iterator[bytes]:
        for _ in range(after):
            yield DATA
        raise error

    given: list[bytes] = []
    with pytest.raises(type(error)) as caught:
        given.extend(encrypt(failing(), keys))
    assert caught.value is error
    _assert_nothing_left()
    if given:  # and what had come out does not pass for a whole backup
        refusal(BackupInvalidError, b"".join(given), keys)


def test_an_error_while_decrypting_arrives_as_it_is(keys: Keys) -> None:
    encrypted = b"".join(encrypt([DATA * 9], keys))

    def failing() -> Iterator[bytes]:
        yield encrypted[: len(encrypted) // 2]
        raise KeyboardInterrupt("own")

    with pytest.raises(KeyboardInterrupt, match="own"):
        list(decrypt(failing(), keys))
    _assert_nothing_left()


def test_who_stops_early_leaves_nothing(keys: Keys) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield DATA

    for count in (0, 1, 7):
        stream = encrypt(endless(), keys)
        assert all(next(stream) for _ in range(count))
        stream.close()  # type: ignore[attr-defined]
        _assert_nothing_left()
    stream = decrypt(encrypt(endless(), keys), keys)
    assert next(stream)
    del stream
    _assert_nothing_left()


def test_a_gpg_that_hangs_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpg").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "gpg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    calls = 0

    def poll() -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise OperationCancelled("cancelled")

    with pytest.raises(OperationCancelled):
        list(encrypt([DATA], Keys(gpg_recipient="open@x.org"), poll))
    children = [pid for pid in Path("/proc").iterdir() if _parent(pid) == os.getpid()]
    assert [pid for pid in children if "sleep" in (pid / "comm").read_text()] == []


def _assert_nothing_left() -> None:
    assert [thread.name for thread in threading.enumerate() if thread.name == "age"] == []
    children = [pid for pid in Path("/proc").iterdir() if _parent(pid) == os.getpid()]
    assert [pid for pid in children if "gpg" in (pid / "comm").read_text()] == []


def test_the_source_is_asked_only_a_little_ahead() -> None:
    asked = 0

    def source() -> Iterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield DATA[:65_536]

    stream = encrypt(source(), pair())
    for taken in range(1, 30):
        next(stream)
        assert asked <= taken + 12


MEASURE = """
import os, resource, sys
from pathlib import Path
from dbops.backups.encryption import Keys, decrypt, encrypt

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

keys = Keys(*eval(sys.argv[1]), gpg_home=Path(sys.argv[2]))
block = os.urandom(1 << 18)
passed = sum(map(len, decrypt(encrypt([block], keys), keys)))
before = peak()
passed = sum(map(len, decrypt(encrypt((block for _ in range(400)), keys), keys)))
print(passed, (peak() - before) << 10)
"""


def test_memory_is_bounded(keys: Keys) -> None:
    fields = (keys.recipients, keys.identity, keys.gpg_recipient)
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, repr(fields), str(keys.gpg_home)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    passed, grown = map(int, measured.stdout.split())
    assert passed == 400 << 18
    assert grown < 10 << 20


# --- the documents --------------------------------------------------------------------------------


def test_the_line_that_makes_a_key_pair(tmp_path: Path) -> None:
    assert f"#   {MAKE_KEY_PAIR}\n" in (ROOT / ".env.example").read_text()
    argv = [sys.executable, *shlex.split(MAKE_KEY_PAIR)[1:]]
    made = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    file = tmp_path / "backup.identity"
    assert file.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"age1[a-z0-9]+\n", made.stdout)
    keys = Keys(recipients=(made.stdout.strip(),), identity=file.read_text())
    assert opened(b"".join(encrypt([DATA], keys)), keys) == DATA
    again = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode != 0
    assert file.read_text() == keys.identity
