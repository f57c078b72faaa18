"""Encryption of backups as a stream: age by default, GPG as django-dbbackup has it.

A few chunks are held, whatever the size, and nothing is written to a disk. GPG hands out what it
has decrypted before it can know whether that was tampered with, and neither knows whether the end
is missing: only an end without an error says that everything before it may be used.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pyrage

from dbops.exceptions import (
    BackupEncryptedError,
    BackupInvalidError,
    ConfigurationError,
    DbopsError,
    ToolError,
)
from dbops.postgres.process import Child, Poll, do_not_poll, memory_file

MAKE_KEY_PAIR = (
    'python -c "import os, pyrage; os.umask(0o077); key = pyrage.x25519.Identity.generate(); '
    "open('backup.identity', 'x').write(str(key)); print(key.to_public())\""
)
"""Writes a new identity to a 0600 file and prints its recipient."""
_AGE = (b"age-encryption.org/v", b"-----BEGIN AGE ENCRYPTED FILE-----")
_GPG_ARMOR = b"-----BEGIN PGP MESSAGE-----"
# What an encrypted message begins with (RFC 9580, 4.2, 5.1 and 5.3): the tag of a session key that
# is encrypted for a public key or by a passphrase, a length of one or two bytes, a version.
_GPG_PACKET = re.compile(
    rb"(?:\x84.|\x85..|\xc1(?:[\x00-\xbf]|[\xc0-\xdf].))[\x03\x06]"
    rb"|(?:\x8c.|\x8d..|\xc3(?:[\x00-\xbf]|[\xc0-\xdf].))[\x04-\x06]",
    re.DOTALL,
)
_HEAD = 64
"""Bytes that tell what a stream is."""
_AHEAD = 4
"""Chunks that are under way to the thread."""


@dataclass(frozen=True)
class Keys:
    """Who can open a new backup, and what opens one that is restored."""

    recipients: tuple[str, ...] = ()
    """Public keys: ``age1…``, ``ssh-ed25519 …`` or ``ssh-rsa …``."""
    identity: str = field(default="", repr=False)
    """An age identity file (lines of ``AGE-SECRET-KEY-1…``), or an OpenSSH private key."""
    gpg_recipient: str = ""
    gpg_passphrase: str = field(default="", repr=False)
    gpg_home: Path | None = None
    """None for gpg's own."""
    gpg_always_trust: bool = False
    """Whether gpg encrypts for a key nobody vouched for."""

    @property
    def kind(self) -> str:
        """How :func:`encrypt` encrypts: ``age``, ``gpg``, or "" for not at all."""
        return "age" if self.recipients else "gpg" if self.gpg_recipient else ""

    @property
    def can_encrypt(self) -> bool:
        return bool(self.kind)


def check_keys(keys: Keys) -> None:
    """Raises ConfigurationError where a recipient or the identity of age is malformed."""
    _recipients(keys)
    _identities(keys)


def encryption_of(head: bytes) -> str:
    """``age``, ``gpg`` or "", from the first 64 bytes of a stream."""
    if head.startswith(_AGE):
        return "age"
    return "gpg" if head.startswith(_GPG_ARMOR) or _GPG_PACKET.match(head) else ""


def encrypt(chunks: Iterable[bytes], keys: Keys, poll: Poll = do_not_poll) -> Iterator[bytes]:
    """Encrypt for every recipient of age, or, without any, for the recipient of GPG, a program of
    its own: ``poll`` is called while we wait for it.

    Raises:
        ConfigurationError: nobody to encrypt for, or a recipient that is malformed or unknown.
        ToolError: gpg is missing or failed. An error of ``chunks`` comes as it is.
    """
    if keys.kind == "age":
        recipients = _recipients(keys)
        return _converted(
            chunks,
            lambda file: pyrage.encrypt_io(file, file, recipients),
            lambda error: ToolError(f"age could not encrypt: {_first_line(error)}."),
        )
    if keys.kind == "gpg":
        trust = ["--trust-model=always"] if keys.gpg_always_trust else []
        # The dump is compressed already; zlib would take ten times as long as the encryption.
        arguments = ["--compress-algo=none", *trust, "--recipient", keys.gpg_recipient, "--encrypt"]
        return _through_gpg(chunks, keys, poll, arguments, "END_ENCRYPTION", _not_encrypted)
    raise ConfigurationError(
        "There is nobody to encrypt for.",
        hint="Set BACKUP_RECIPIENTS to the public half of a key pair; .env.example makes one.",
    )


def decrypt(chunks: Iterable[bytes], keys: Keys, poll: Poll = do_not_poll) -> Iterator[bytes]:
    """Decrypt what is encrypted, by age or GPG, armored or not; pass on everything else as it is.

    Pulling the first chunk proves the key. Damage within the header cannot always be told
    from a wrong key; whoever has a checksum compares it first.

    Raises:
        BackupEncryptedError: no key is set, or the one that is does not open it.
        BackupInvalidError: damaged, or ends too early.
        ConfigurationError: the identity is malformed. ToolError: gpg is missing or failed.
    """
    stream = iter(chunks)
    head = b""
    while len(head) < _HEAD and (chunk := next(stream, None)) is not None:
        head += chunk
    whole = chain([head], stream) if head else stream
    kind = encryption_of(head)
    if kind == "age":
        identities = _identities(keys)
        if not identities:
            raise BackupEncryptedError(
                "The backup is encrypted, and no identity that could open it is set.",
                hint="Set BACKUP_IDENTITY_FILE to the file that holds the identity, or "
                "BACKUP_IDENTITY to its content.",
            )
        yield from _converted(
            whole, lambda file: pyrage.decrypt_io(file, file, identities), _not_decrypted_by_age
        )
    elif kind == "gpg":
        yield from _through_gpg(
            whole, keys, poll, ["--decrypt"], "DECRYPTION_OKAY", _not_decrypted_by_gpg
        )
    else:
        yield from whole


# --- keys -----------------------------------------------------------------------------------------
# Nothing of a key may show: neither in a message nor, as a cause, in a traceback.


def _recipients(keys: Keys) -> list[Any]:
    parsed = []
    for position, text in enumerate(keys.recipients, 1):
        kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
        try:
            parsed.append(kind.Recipient.from_str(text))
        except (pyrage.RecipientError, ValueError):
            raise ConfigurationError(
                f"Recipient {position} of BACKUP_RECIPIENTS is not a public key.",
                hint="Each begins with age1, ssh-ed25519 or ssh-rsa; a comma or a line break "
                "stands between two.",
            ) from None
    return parsed


def _identities(keys: Keys) -> list[Any]:
    lines = [line.strip() for line in keys.identity.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    try:
        if lines and lines[0].startswith("-----BEGIN"):
            return [pyrage.ssh.Identity.from_buffer("\n".join([*lines, ""]).encode())]
        return [pyrage.x25519.Identity.from_str(line) for line in lines]
    except (pyrage.IdentityError, ValueError):
        raise ConfigurationError(
            "BACKUP_IDENTITY is neither an age identity nor an OpenSSH private key.",
            hint="An age identity is a line of AGE-SECRET-KEY-1…; an SSH key must be RSA or "
            "Ed25519 and have no passphrase.",
        ) from None


# --- age ------------------------------------------------------------------------------------------


class _Conversation:
    """The file pyrage reads from and writes to in its thread.

    The thread asks for a chunk whenever it has taken one, so no more than ``_AHEAD`` are ever
    under way, and neither side waits for the other to make room: there is no way to a deadlock.
    """

    WANTED, ENDED = object(), object()

    def __init__(self) -> None:
        self.given: SimpleQueue[bytes | None] = SimpleQueue()
        """Chunks, b"" for their end, None when nobody waits for the result any more."""
        self.answers: SimpleQueue[Any] = SimpleQueue()
        """What was written, or ``WANTED``, or ``ENDED``."""
        self.error: BaseException | None = None
        self._rest = memoryview(b"")
        self._exhausted = False

    def run(self, convert: Callable[[_Conversation], None]) -> None:
        for _ in range(_AHEAD):
            self.answers.put(self.WANTED)
        try:
            convert(self)
        except BaseException as error:  # carried to the caller's thread
            self.error = error
        finally:
            self.answers.put(self.ENDED)

    def read(self, size: int) -> bytes:
        if not self._rest and not self._exhausted:
            chunk = self.given.get()
            if chunk is None:
                raise ValueError("Nobody waits for the result any more.")
            self._rest, self._exhausted = memoryview(chunk), not chunk
            self.answers.put(self.WANTED)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)

    def write(self, data: bytes) -> int:
        self.answers.put(data)
        return len(data)

    def flush(self) -> None:
        """Asked for by pyrage."""


def _converted(
    chunks: Iterable[bytes],
    convert: Callable[[_Conversation], None],
    explain: Callable[[BaseException], BaseException],
) -> Iterator[bytes]:
    """What ``convert`` writes, in a thread, while it reads ``chunks``, which are made in ours."""
    stream = filter(None, chunks)
    conversation = _Conversation()
    thread = threading.Thread(target=conversation.run, args=[convert], name="age", daemon=True)
    thread.start()
    try:
        while (answer := conversation.answers.get()) is not conversation.ENDED:
            if answer is conversation.WANTED:
                conversation.given.put(next(stream, b""))
            else:
                yield answer
    finally:
        conversation.given.put(None)
        thread.join()
    if conversation.error is not None:
        raise explain(conversation.error) from None


def _not_decrypted_by_age(error: BaseException) -> BaseException:
    if isinstance(error, pyrage.DecryptError) and "No matching keys" in str(error):
        return BackupEncryptedError(
            "The identity in BACKUP_IDENTITY does not open this backup.",
            hint="Set BACKUP_IDENTITY_FILE to the identity of one of those it was encrypted for.",
        )
    if isinstance(error, (pyrage.DecryptError, OSError)):
        return BackupInvalidError(
            f"The encrypted stream is damaged or truncated: {_first_line(error)}."
        )
    return error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(".")


# --- GPG ------------------------------------------------------------------------------------------


def _through_gpg(
    chunks: Iterable[bytes],
    keys: Keys,
    poll: Poll,
    arguments: Sequence[str],
    done: str,
    explain: Callable[[str], DbopsError],
) -> Iterator[bytes]:
    """``done``: the word among gpg's status messages without which it has not succeeded, whatever
    its exit code: it also "decrypts" what was never encrypted."""
    home = [f"--homedir={keys.gpg_home}"] if keys.gpg_home else []
    with memory_file(keys.gpg_passphrase.encode()) as (path, descriptors):
        secret = ["--pinentry-mode=error"]  # never a prompt, which nobody would see
        if keys.gpg_passphrase:
            secret = ["--pinentry-mode=loopback", f"--passphrase-file={path}"]
        argv = ["gpg", "--batch", "--yes", "--status-fd=2", *home, *secret, *arguments]
        try:
            child = Child(argv, stdin=subprocess.PIPE, descriptors=descriptors)
        except OSError as error:
            raise ToolError(
                f"gpg cannot be started: {error.strerror}.",
                hint="Install GnuPG, for example: apt-get install gnupg",
            ) from error
        with child:
            yield from child.convert(chunks, poll)
            code = child.wait(poll, allowed=(0, 1, 2))
            if code or f"[GNUPG:] {done}" not in child.stderr:
                raise explain(child.stderr)


def _not_encrypted(messages: str) -> DbopsError:
    if "[GNUPG:] INV_RECP" in messages:
        return ConfigurationError(
            "GPG has no key it trusts for the recipient in DBBACKUP_GPG_RECIPIENT.",
            hint="Import it (gpg --import FILE) and sign it, or set DBBACKUP_GPG_ALWAYS_TRUST=true "
            "where only the right keys are in the keyring.",
        )
    lines = [line for line in messages.splitlines() if not line.startswith("[GNUPG:]")]
    return ToolError(f"gpg could not encrypt: {(lines or ['no message'])[0]}")


def _not_decrypted_by_gpg(messages: str) -> DbopsError:
    # Once it has the session key it tells about the content; what fails then is no key's fault.
    if "[GNUPG:] DECRYPTION_FAILED" in messages and "[GNUPG:] DECRYPTION_INFO" not in messages:
        return BackupEncryptedError(
            "GPG has no secret key that opens this backup, or not the passphrase of it.",
            hint="Import the key (gpg --import FILE); BACKUP_GPG_PASSPHRASE_FILE names the file "
            "with its passphrase.",
        )
    return BackupInvalidError("The stream that GPG encrypted is damaged or truncated.")
