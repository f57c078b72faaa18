"""What tells one copy from another on the command line, also of those that are scheduled."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from dbops.management.operation_command import add_jobs_argument
from dbops.operations.copy_plan import STRATEGIES, VERIFICATIONS

_DEFAULTS = ("full", "auto", "counts")


def add_copy_arguments(parser: ArgumentParser) -> None:
    """Everything but source and target."""
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument(
        "--schema-only",
        action="store_true",
        help="TARGET takes the schema of SOURCE and keeps its own rows",
    )
    parts.add_argument(
        "--data-only",
        action="store_true",
        help="TARGET keeps its schema and takes the rows of SOURCE",
    )
    masks = parser.add_mutually_exclusive_group()
    masks.add_argument("--mask", action="store_true", help="mask personal data on the way")
    masks.add_argument(
        "--no-mask", action="store_true", help="copy a protected environment as it is"
    )
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="tables that arrive empty: 'audit_*', 'public.log' (repeatable)",
    )
    parser.add_argument(
        "--preserve",
        metavar="PATTERN",
        action="append",
        default=[],
        help="tables that keep the rows of TARGET: 'accounts_*' (repeatable)",
    )
    parser.add_argument(
        "--drop-misfits",
        action="store_true",
        help="leave out rows that do not fit the schema, instead of stopping",
    )
    parser.add_argument("--strategy", choices=STRATEGIES, default="auto", help="how rows travel")
    parser.add_argument(
        "--verify",
        choices=VERIFICATIONS,
        default="counts",
        help="prove the copy by row counts (default), or by checksums of all rows, too",
    )
    parser.add_argument(
        "--disconnect-source",
        action="store_true",
        help="end the sessions of SOURCE, so that its files can be copied",
    )
    add_jobs_argument(parser, "how many tables travel side by side (default: by CPUs)")


def copy_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The operation's own options, as they are recorded, from the parsed command line; those left
    alone are left out."""
    found = {
        "part": "schema" if options["schema_only"] else "data" if options["data_only"] else "full",
        "mask": options["mask"],
        "unmasked": options["no_mask"],
        "exclude": list(options["exclude"]),
        "preserve": list(options["preserve"]),
        "drop_misfits": options["drop_misfits"],
        "strategy": options["strategy"],
        "verify": options["verify"],
        "disconnect_source": options["disconnect_source"],
        "jobs": options["jobs"],
    }
    return {name: value for name, value in found.items() if value and value not in _DEFAULTS}
