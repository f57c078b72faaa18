"""What our commands say of the options that django-dbbackup's commands have."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

_BOTH = {
    "interactive": "never prompt",
    "quiet": "do not tell what was done; errors and progress are told",
}
OF_BACKUP: Mapping[str, str] = {
    **_BOTH,
    "database": "dev, test or prod, or several of them, separated by commas (default: the active "
    "one)",
    "servername": "put before the name of the backup; dbrestore -s finds it by that",
    "compress": "changes nothing: every backup is compressed",
    "encrypt": "refuse to back up unless BACKUP_RECIPIENTS is set; where it is, every backup is "
    "encrypted",
    "output_filename": "the name of the backup in the storage",
    "exclude_tables": "tables whose rows are left out, separated by commas; such a backup is "
    "partial",
    "schema": "back up this schema only; may be repeated; such a backup is partial",
}
OF_RESTORE: Mapping[str, str] = {
    **_BOTH,
    "database": "dev, test or prod (default: the active one)",
    "input_filename": "the backup of this name (default: the latest; see listbackups)",
    "input_path": "a dump made elsewhere: its file, or the directory that it is",
    "servername": "without -i and -I: the latest of those that dbbackup -s made with this name",
    "decrypt": "changes nothing: what is encrypted is decrypted",
    "uncompress": "changes nothing: what is compressed is decompressed",
    "schema": "replace only this schema; may be repeated",
}


def reword(parser: argparse.ArgumentParser, words: Mapping[str, str], refused: set[str]) -> None:
    """Give the options added so far our own words, by their destinations; those that are refused
    whenever they are used are not listed."""
    for action in parser._actions:
        action.help = words.get(action.dest, action.help)
        if action.dest in refused:
            action.help = argparse.SUPPRESS
