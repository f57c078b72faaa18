"""The journal: who did what, when, with which outcome, in a chain nobody can mend unnoticed.

Each entry's hash is an HMAC over its content and the hash before it, so altering or deleting one
breaks every later one. The same lines are appended to a file beside the database: cutting off the
end of one is seen by comparing with the other.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from dbops.conf import journal_file, signing_keys
from dbops.models import JournalEntry
from skinspire.router import CONTROL

_BEGINNING = "0" * 64
_TRIES = 20
_IN_FLIGHT = timedelta(seconds=2)
"""A row younger than this may still be waiting for its line in the file."""


def record(event: str, *, actor: str, operation: str = "", **details: Any) -> JournalEntry:
    """Append one entry to the chain and to the file.

    ``previous_hash`` is unique: of two writers that saw the same end, one takes the next place
    and the other looks again.
    """
    for attempt in range(_TRIES):
        try:
            with transaction.atomic(using=CONTROL):
                entry = _append(event, actor, operation, details)
            break
        except IntegrityError:
            if attempt == _TRIES - 1:
                raise
    _append_line(entry)
    return entry


def _append(event: str, actor: str, operation: str, details: dict[str, Any]) -> JournalEntry:
    last = JournalEntry.objects.using(CONTROL).order_by("-sequence").first()
    entry = JournalEntry(
        at=timezone.now(),
        event=event,
        operation=operation,
        actor=actor,
        details=json.loads(json.dumps(details, default=str)),
        previous_hash=last.hash if last else _BEGINNING,
    )
    entry.hash = _hash(entry, signing_keys()[0])
    entry.save(using=CONTROL, force_insert=True)
    return entry


def _content(entry: JournalEntry) -> dict[str, Any]:
    return {
        "at": entry.at.isoformat(),
        "event": entry.event,
        "operation": entry.operation,
        "actor": entry.actor,
        "details": entry.details,
        "previous_hash": entry.previous_hash,
    }


def _hash(entry: JournalEntry, key: bytes) -> str:
    canonical = json.dumps(_content(entry), sort_keys=True, separators=(",", ":"))
    return hmac.new(key, canonical.encode(), hashlib.sha256).hexdigest()


def _append_line(entry: JournalEntry) -> None:
    line = json.dumps(_content(entry) | {"hash": entry.hash}, sort_keys=True) + "\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    descriptor = os.open(journal_file(), flags, 0o600)
    try:
        data = line.encode()
        if os.write(descriptor, data) != len(data):  # one write: lines of two do not mix
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(journal_file()))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify_journal() -> list[str]:
    """Sentences on every break of the chain and every difference from the file; [] if sound."""
    written = _hashes_in_file()  # first: a line is written after its row
    entries = list(JournalEntry.objects.using(CONTROL).order_by("sequence"))
    problems = list(_broken_links(entries))
    if missing := len(written - {entry.hash for entry in entries}):
        problems.append(f"{missing} entries of the journal file are gone from the database.")
    settled = timezone.now() - _IN_FLIGHT
    if extra := len({entry.hash for entry in entries if entry.at < settled} - _hashes_in_file()):
        problems.append(f"{extra} entries of the database are gone from the journal file.")
    return problems


def _broken_links(entries: list[JournalEntry]) -> Iterable[str]:
    expected = _BEGINNING
    for entry in entries:
        if entry.previous_hash != expected:
            yield f"Before entry {entry.sequence} something was removed."
        if not any(hmac.compare_digest(_hash(entry, key), entry.hash) for key in signing_keys()):
            yield f"Entry {entry.sequence} was altered."
        expected = entry.hash


def _hashes_in_file() -> set[str]:
    found = set()
    try:
        with journal_file().open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    found.add(str(json.loads(line)["hash"]))
                except (ValueError, KeyError, TypeError):
                    found.add(f"unreadable: {line[:40]}")
    except FileNotFoundError:
        return set()
    return found
