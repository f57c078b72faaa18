"""The journal cannot be edited unnoticed."""

from __future__ import annotations

import sqlite3
import time

import pytest

from tests.installation import Installation


@pytest.fixture
def used(installation18: Installation) -> Installation:
    installation18.result("init_db", "--env", "dev")
    installation18.result("dbbackup", "-d", "dev")
    assert installation18.result("operations", "sweep")["journal_problems"] == []
    return installation18


def _tamper(installation: Installation, statement: str) -> None:
    connection = sqlite3.connect(installation.home / "control.sqlite3")
    with connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE dbops_journalentry SET actor = 'somebody else' WHERE sequence = 2",
        "UPDATE dbops_journalentry SET details = '{}' WHERE sequence = 3",
        "DELETE FROM dbops_journalentry WHERE sequence = 2",
        "DELETE FROM dbops_journalentry WHERE sequence = "
        "(SELECT max(sequence) FROM dbops_journalentry)",
    ],
)
def test_an_altered_or_deleted_row_is_noticed(used: Installation, statement: str) -> None:
    """Fault 69: the chain of hashes, and the file beside it, tell."""
    _tamper(used, statement)
    answer = used.run("operations", "sweep", code=1)
    assert "journal is not as it was written" in answer.err


def test_a_cut_file_is_noticed(used: Installation) -> None:
    time.sleep(2.1)  # younger rows may still be waiting for their line
    file = used.home / "journal.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    assert "gone from the journal file" in used.run("operations", "sweep", code=1).err


def test_refusals_are_recorded(used: Installation) -> None:
    used.refused("copy_db", "test", "prod", "--noinput", "--confirm", "prod")
    assert '"refused"' in (used.home / "journal.jsonl").read_text()


def test_parallel_writers_keep_one_chain(used: Installation) -> None:
    processes = [used.start("dbbackup", "-d", "dev") for _ in range(6)]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert used.result("operations", "sweep")["journal_problems"] == []
