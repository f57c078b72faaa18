"""Features of looking inside."""

from __future__ import annotations

from dbops.exceptions import PreflightError
from dbops.features.feature import expect, expect_refused, feature
from dbops.features.scratch import Scratch
from dbops.operations.context import OperationContext
from dbops.operations.difference import DiffRequest, diff_databases
from dbops.operations.inspection import InspectRequest, plan_in_place


@feature("inspect-db", "two equal databases show no drift, a new column shows as drift", "direct")
def drift_is_seen(scratch: Scratch) -> None:
    ends = [InspectRequest(name, scratch.fill(name)) for name in ("test", "dev")]
    request = DiffRequest(*ends)
    expect(not diff_databases(request, OperationContext("")).drift, "Equal databases differ.")
    scratch.sql("dev", "ALTER TABLE ward.sessions ADD COLUMN seen integer")
    expect(diff_databases(request, OperationContext("")).drift, "A new column was not seen.")


@feature("inspect-db", "a database that does not exist is refused by name", "direct")
def missing_database_is_refused(scratch: Scratch) -> None:
    request = InspectRequest("dev", scratch.database("nowhere"))
    expect_refused(PreflightError, lambda: plan_in_place(request, writing=False))


@feature("inspect-db", "inspect_db shows every table, and one with its columns", "command")
def tables_are_shown(scratch: Scratch) -> None:
    scratch.fill("test")
    shown = scratch.run("inspect_db", "--env", "test", "--tables")
    expect(shown.code == 0, f"inspect_db --tables failed, {shown.told}")
    expect("patients" in str(shown.result), "A table is missing.")
    one = scratch.run("inspect_db", "--env", "test", "--table", "ward.patients")
    expect(one.code == 0, f"inspect_db --table failed, {one.told}")
    expect("initials" in str(one.result.get("columns")), "A column is missing.")
    for option in ("--triggers", "--functions"):
        answer = scratch.run("inspect_db", "--env", "test", option)
        expect(answer.code == 0, f"inspect_db {option} failed, {answer.told}")


@feature("inspect-db", "a table that does not exist is refused by name", "command")
def missing_table_is_refused(scratch: Scratch) -> None:
    answer = scratch.run("inspect_db", "--env", "test", "--table", "ward.patient")
    expect(answer.code == 1 and "ward.patient" in answer.error.get("message", ""), answer.told)
