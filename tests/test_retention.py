"""Retention that cannot delete the wrong thing: the plan, the storage, the whole command."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import environ
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage

from dbops.backups.manifest import Manifest
from dbops.backups.retention import Candidate, Plan, RetentionPolicy, plan_retention
from dbops.backups.store import BackupStore, check_new_name
from dbops.exceptions import BackupNotFoundError, UsageError
from dbops.operations.context import OperationContext
from dbops.operations.retention import PruneRequest, prune_backups
from dbops.postgres.connection import session
from skinspire.variables import read_counts
from tests.faults import make_loading_slow, prepare, tools_of, wait_for
from tests.installation import Installation
from tests.s3_server import S3Server

NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)
NONE = RetentionPolicy(0, 0, 0)
CONTENT = b"an archive"
KEY = b"k" * 32


def _manifest(
    name: str, environment: str, made: datetime, excluded: tuple[str, ...] = ()
) -> Manifest:
    fingerprint = {
        "tables": {"public.a": 3}, "unvalidated": [], "invalid_indexes": [],
        "sequences_behind": [], "extensions": [], "trigger_digest": "",
    }  # fmt: skip
    return Manifest(
        name=name, environment=environment, database="d", created_at=made.isoformat(),
        seconds=1.0, size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(),
        encrypted=False, server_version="18.4", server_major=18, dump_version=18,
        fingerprint=fingerprint, owners=[], grantees=[], migrations=[], actor="ada",
        operation="0" * 12, excluded=excluded,
    )  # fmt: skip


def _candidate(name: str, made: datetime, environment: str = "dev", **about: object) -> Candidate:
    excluded = ("--schema=a",) if about.pop("partial", False) else ()
    return Candidate(_manifest(name, environment, made, excluded), **about)  # type: ignore[arg-type]


def _names(plan: Plan) -> set[str]:
    return {kept.name for kept in plan.kept}


# The plan


def test_the_layers_of_a_year_of_daily_backups() -> None:
    backups = [_candidate(f"{days:03}", NOW - timedelta(days=days)) for days in range(400)]
    plan = plan_retention(backups, RetentionPolicy(), NOW)
    days = [int(kept.name) for kept in plan.kept]
    # 18 March 2026 is a Wednesday: its week, and the Sundays before; the last days of months.
    weeks, months = [0, 3, 10, 17], [0, 18, 46, 77, 108, 138, 169, 199, 230, 261, 291, 322]
    assert days == sorted({*range(7), *weeks, *months})
    assert plan.kept[0].reasons == ("newest good", "daily", "weekly", "monthly")
    assert [kept.reasons for kept in plan.kept if kept.name in ("004", "010", "046")] == [
        ("daily",), ("weekly",), ("monthly",),
    ]  # fmt: skip
    assert [backup.name for backup in plan.deleted][:2] == ["399", "398"]
    assert plan.freed == len(plan.deleted) * len(CONTENT)


def test_days_are_those_of_utc() -> None:
    made = [
        datetime.fromisoformat(moment)
        for moment in ("2026-03-18T01:30:00+02:00", "2026-03-17T12:00:00+00:00")
    ]
    backups = [_candidate(str(number), moment) for number, moment in enumerate(made)]
    plan = plan_retention(backups, RetentionPolicy(2, 0, 0), NOW)
    assert _names(plan) == {"0"}, "both are of 17 March"


def test_the_same_week_and_month_of_another_year_are_others() -> None:
    backups = [_candidate(f"{weeks}", NOW - timedelta(weeks=weeks)) for weeks in (0, 52, 104)]
    for policy in (RetentionPolicy(0, 3, 0), RetentionPolicy(0, 0, 3)):
        assert _names(plan_retention(backups, policy, NOW)) == {"0", "52", "104"}


def test_backups_that_have_failed_for_a_year_do_not_age_away() -> None:
    backups = [_candidate(f"{days}", NOW - timedelta(days=days)) for days in range(365, 380)]
    assert len(_names(plan_retention(backups, RetentionPolicy(7, 0, 0), NOW))) == 7


def test_without_layers_the_last_good_and_the_last_verified_stay() -> None:
    old, older = NOW - timedelta(days=500), NOW - timedelta(days=600)
    backups = [
        _candidate("newest", old),
        _candidate("verified", older, verified_at=older),
        _candidate("verified again", older - timedelta(days=1), verified_at=NOW),
        _candidate("neither", older - timedelta(days=2), verified_at=older),
        _candidate("partial", NOW, partial=True, verified_at=NOW),
        _candidate("of test", older, "test"),
    ]
    plan = plan_retention(backups, NONE, NOW)
    assert _names(plan) == {"newest", "verified", "verified again", "of test"}


def test_a_partial_backup_stays_for_the_daily_window_and_never_counts() -> None:
    whole = _candidate("whole", NOW - timedelta(days=40))
    partial = [_candidate(f"{days}", NOW - timedelta(days=days), partial=True) for days in range(9)]
    plan = plan_retention([whole, *partial], RetentionPolicy(7, 4, 12), NOW)
    assert _names(plan) == {"whole", *(str(days) for days in range(7))}
    assert plan.kept[-1].reasons == ("newest good", "daily", "weekly", "monthly")


def test_a_wrong_clock_costs_nothing() -> None:
    """A backup dated tomorrow is not taken for the newest good one, and not deleted either."""
    backups = [_candidate("future", NOW + timedelta(days=1)), _candidate("today", NOW)]
    assert _names(plan_retention(backups, NONE, NOW)) == {"future", "today"}
    assert _names(plan_retention(backups, NONE, NOW - timedelta(days=3650))) == {"future", "today"}


def _history(rng: random.Random) -> list[Candidate]:
    def candidate(number: int) -> Candidate:
        made = NOW - timedelta(minutes=rng.choice([1, 60, 60 * 24]) * rng.randrange(-50, 900))
        verified = NOW - timedelta(hours=rng.randrange(5000)) if rng.random() < 0.1 else None
        return _candidate(
            f"{number}", made, rng.choice(["dev", "test", "prod"]), partial=rng.random() < 0.2,
            pinned=rng.random() < 0.05, in_use=rng.random() < 0.03, verified_at=verified,
        )  # fmt: skip

    backups = [candidate(number) for number in range(rng.randrange(80))]
    return backups + [  # several of one and the same moment
        replace(twin, manifest=replace(twin.manifest, name=f"twin {twin.name}"))
        for twin in backups
        if rng.random() < 0.1
    ]


def _policy(rng: random.Random) -> RetentionPolicy:
    return RetentionPolicy(rng.randrange(10), rng.randrange(6), rng.randrange(15))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_history_nothing_wrong_goes(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(20):
        history, policy = _history(rng), _policy(rng)
        plan = plan_retention(history, policy, NOW)
        kept = _names(plan)
        assert sorted([*kept, *(it.name for it in plan.deleted)]) == sorted(
            it.name for it in history
        )
        for environment in ("dev", "test", "prod"):
            mine = [it for it in history if it.manifest.environment == environment]
            must = _must_stay(mine, policy)
            assert must <= kept
            # Environments do not touch one another.
            assert _names(plan_retention(mine, policy, NOW)) == kept & {it.name for it in mine}
            most = policy.daily + policy.weekly + policy.monthly + len(must)
            assert len(kept & {it.name for it in mine}) <= most


def _order(backup: Candidate) -> tuple[datetime, str]:
    return backup.created_at, backup.name


def _must_stay(mine: list[Candidate], policy: RetentionPolicy) -> set[str]:
    """What has to stay of one environment's backups, found the slow way."""
    must = {it.name for it in mine if it.pinned or it.in_use or it.created_at > NOW}
    age = {it.name: (NOW.date() - it.created_at.date()).days for it in mine}
    partial = {it.name for it in mine if it.manifest.excluded}
    must |= {name for name in partial if age[name] < policy.daily}
    good = [it for it in mine if it.name not in partial and it.created_at <= NOW]
    verified = [it for it in good if it.verified_at]
    of_days = [[it for it in good if age[it.name] == days] for days in range(policy.daily)]
    for group in (good, verified, *of_days):
        must |= {max(group, key=_order).name} if group else set()
    if verified:
        must.add(max(verified, key=lambda it: (it.verified_at or NOW, *_order(it))).name)
    return must


@pytest.mark.parametrize("seed", range(20))
def test_planning_again_deletes_nothing_and_more_keeps_more(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(20):
        history, policy = _history(rng), _policy(rng)
        kept = _names(plan_retention(history, policy, NOW))
        remaining = [backup for backup in history if backup.name in kept]
        assert plan_retention(remaining, policy, NOW).deleted == ()
        rng.shuffle(history)
        assert _names(plan_retention(history, policy, NOW)) == kept
        for layer in ("daily", "weekly", "monthly"):
            wider = replace(policy, **{layer: getattr(policy, layer) + rng.randrange(1, 5)})
            assert kept <= _names(plan_retention(history, wider, NOW))


# The storage


@pytest.fixture(params=["files", "remote", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BackupStore:
    if request.param == "remote":
        return BackupStore(InMemoryStorage(), (KEY,))
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return BackupStore(server.storage(), (KEY,))
    return BackupStore(FileSystemStorage(location=tmp_path / "b"), (KEY,), tmp_path / "b")


def _add(
    store: BackupStore, name: str, days: float, environment: str = "dev", *, partial: bool = False
) -> str:
    made = datetime.now(UTC) - timedelta(days=days)
    store.write(name, [CONTENT], operation="0" * 12)
    store.seal(_manifest(name, environment, made, ("--schema=a",) if partial else ()))
    return name


def _prune(store: BackupStore, **more: object) -> list[str]:
    request = PruneRequest(store, RetentionPolicy(1, 0, 0), **more)  # type: ignore[arg-type]
    return prune_backups(request, OperationContext("f" * 12)).deleted


def test_a_pin_lies_in_the_storage(store: BackupStore) -> None:
    _add(store, "a", 9)
    _add(store, "b", 1)
    assert not store.is_pinned("a")
    store.pin("a")
    store.pin("a")
    assert store.is_pinned("a")
    assert store.names() == ["a", "b"]
    assert _prune(store) == []
    store.unpin("a")
    store.unpin("a")
    assert _prune(store) == ["a"]
    with pytest.raises(BackupNotFoundError):
        store.pin("a")
    with pytest.raises(BackupNotFoundError):
        store.unpin("a")
    assert sorted(store.storage.listdir("")[1]) == ["b", "b.metadata"]


def test_the_nearest_names_are_told(store: BackupStore) -> None:
    for name in ("dev-20260101.dump.zst", "dev-20260102.dump.zst", "other"):
        _add(store, name, 1)
    with pytest.raises(BackupNotFoundError) as caught:
        store.pin("dev-2026010.dump.zst")
    assert "dev-20260101.dump.zst" in caught.value.hint
    assert "other" not in caught.value.hint
    assert "listbackups" in store.not_found("nothing like it").hint


def test_no_backup_can_pass_for_a_pin() -> None:
    with pytest.raises(UsageError):
        check_new_name("a.dump.zst.pinned")


def test_deleting_twice_is_no_error(store: BackupStore) -> None:
    _add(store, "a", 9)
    store.delete("a")
    store.delete("a")
    assert store.names() == []
    assert store.remnants() == []


def test_what_a_crash_in_a_deletion_leaves_is_cleared_up(store: BackupStore) -> None:
    for days in range(1, 4):
        _add(store, f"{days}", days)
    store.storage.delete("3")
    assert [remnant.name for remnant in store.remnants()] == ["3"]
    assert store.names() == ["1", "2"]
    assert _prune(store, environment="test") == []
    assert _prune(store) == ["2", "3"]
    assert sorted(store.storage.listdir("")[1]) == ["1", "1.metadata"]


def test_what_cannot_be_judged_is_named_and_not_touched(store: BackupStore) -> None:
    _add(store, "good", 5)
    _add(store, "old", 6)
    store.write("forged", [b"x"], operation="1" * 12)
    store.storage.save("forged.metadata", ContentFile(b'{"hmac": 1}'))
    store.storage.save("lonely.metadata", ContentFile(b"{}"))
    store.write("unsealed", [b"x"], operation="2" * 12)
    _add(store, "damaged", 0)
    store.storage.delete("damaged")
    store._put("damaged", [CONTENT[:-1]], "3" * 12)  # cut off: not the newest good one
    request = PruneRequest(store, NONE)
    result = prune_backups(request, OperationContext("f" * 12))
    assert result.deleted == ["old"]
    reasons = {kept.name: kept.reasons[0] for kept in result.kept}
    assert reasons.keys() == {"good", "forged", "damaged"}
    assert reasons["good"] == "newest good"
    assert reasons["forged"].startswith("not valid:")
    assert reasons["damaged"] == f"not valid: damaged, {len(CONTENT) - 1} bytes of {len(CONTENT)}"
    entries = set(store.storage.listdir("")[1])
    assert {"forged", "forged.metadata", "lonely.metadata", "unsealed", "damaged"} <= entries


def test_partial_backups_are_no_last_resort(store: BackupStore) -> None:
    _add(store, "whole", 50)
    _add(store, "recent", 0, partial=True)
    _add(store, "old", 3, partial=True)
    assert _prune(store) == ["old"]


def test_only_the_named_environment_is_pruned(store: BackupStore) -> None:
    for environment in ("dev", "test"):
        for days in (1, 2):
            _add(store, f"{environment}{days}", days, environment)
    assert _prune(store, environment="test") == ["test2"]


def _meanwhile(act: Callable[[], object], *used: str) -> Callable[[], tuple[str, ...]]:
    """Acts between the plan and the first deletion: open operations are asked for at both."""
    turns = iter(["plan", "first deletion"])

    def in_use() -> tuple[str, ...]:
        turn = next(turns, "")
        if turn == "first deletion":
            act()
        return () if turn == "plan" else used

    return in_use


def test_what_is_pinned_sealed_or_used_while_pruning_stays(store: BackupStore) -> None:
    for days in range(1, 6):
        _add(store, f"{days}", days)

    def act() -> None:
        store.pin("4")
        _add(store, "0", 0)

    assert _prune(store, in_use=_meanwhile(act, "3")) == ["5", "2"]
    assert store.names() == ["0", "1", "3", "4"]


def test_a_name_used_anew_while_pruning_stays(store: BackupStore) -> None:
    for days in range(1, 4):
        _add(store, f"{days}", days)

    def act() -> None:
        store.delete("2")
        _add(store, "2", 0)

    assert _prune(store, in_use=_meanwhile(act)) == ["3"]
    assert store.names() == ["1", "2"]


def test_one_refusal_does_not_stop_the_others(
    store: BackupStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days in range(1, 5):
        _add(store, f"{days}", days)
    delete = store.storage.delete

    def refusing(name: str) -> None:
        if name == "3":
            raise PermissionError("not yours")
        delete(name)

    monkeypatch.setattr(store.storage, "delete", refusing)
    result = prune_backups(PruneRequest(store, NONE), OperationContext("f" * 12))
    assert result.deleted == ["4", "2"]
    assert "not yours" in result.refused["3"]
    assert store.names() == ["1", "3"]


# The whole command


@pytest.fixture
def history(installation18: Installation) -> Installation:
    """dev has a tiny backup of each of twenty days, ``d01`` being yesterday's, all catalogued;
    three days are kept."""
    installation18.variables["BACKUP_RETENTION"] = "daily=3, weekly=0, monthly=0"
    store = _store(installation18)
    for days in range(1, 21):
        _add(store, f"d{days:02}", days)
    installation18.result("operations", "sweep")
    return installation18


KEPT = ["d01", "d02", "d03"]


def _store(installation: Installation) -> BackupStore:
    directory = installation.home / "backups"
    key = (installation.home / "secret_key").read_text().strip().encode()
    signing = hmac.new(key, b"skinspire.signing", hashlib.sha256).digest()
    return BackupStore(FileSystemStorage(location=directory), (signing,), directory)


@contextmanager
def _control(installation: Installation) -> Iterator[sqlite3.Connection]:
    with sqlite3.connect(installation.home / "control.sqlite3", timeout=30) as connection:
        yield connection
    connection.close()


def _listed(installation: Installation) -> list[str]:
    return [item["name"] for item in installation.result("listbackups")["backups"]]


def _pinned_rows(installation: Installation) -> list[str]:
    with _control(installation) as control:
        return [row[0] for row in control.execute("SELECT name FROM dbops_backup WHERE pinned")]


def test_pruning_deletes_what_the_dry_run_said(history: Installation) -> None:
    files = {path.name: path.read_bytes() for path in (history.home / "backups").iterdir()}
    foreseen = history.result("prune_backups", "--dry-run")
    readable = history.run("prune_backups", "--dry-run").out
    assert "keep    d01  (newest good, daily)" in readable
    assert "delete  d04  (4 days ago, 10 Bytes)" in readable
    assert {path.name: path.read_bytes() for path in (history.home / "backups").iterdir()} == files
    assert history.result("operations") == {"operations": []}
    answer = history.run("prune_backups", "--noinput", "--json").json
    assert answer["result"] == foreseen
    assert answer["operation"]["kind"] == "prune"
    assert foreseen["deleted"] == [f"d{days:02}" for days in range(20, 3, -1)]
    assert foreseen["kept"][0] == {"name": "d01", "reasons": ["newest good", "daily"]}
    assert foreseen["freed"] == 17 * len(CONTENT)
    assert _listed(history) == _store(history).names() == KEPT
    shown = history.result("operations", "show", answer["operation"]["id"])
    assert shown["outcome"]["deleted"] == foreseen["deleted"]
    journal = (history.home / "journal.jsonl").read_text().splitlines()[-1]
    assert json.loads(journal)["details"]["result"]["deleted"] == foreseen["deleted"]
    again = history.result("prune_backups", "--noinput")
    assert again["deleted"] == []
    assert again["kept"] == foreseen["kept"]


def test_without_a_terminal_nothing_is_deleted(history: Installation) -> None:
    assert "--noinput" in history.run("prune_backups", code=1).err
    assert len(_listed(history)) == 20


def test_after_many_failures_the_last_good_one_stays(installation18: Installation) -> None:
    """Fault 12: whatever failed since."""
    installation = installation18
    installation.variables["BACKUP_RETENTION"] = "daily=0,weekly=0,monthly=0"
    installation.result("init_db", "--env", "dev")
    store = _store(installation)
    for days in (400, 500, 600):
        _add(store, f"good{days}", days)
    owner = replace(installation.server.superuser, database=installation.databases["dev"].database)
    with session(owner) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE public.not_ours AS SELECT 1 AS id")  # pg_dump may not read it
    for _ in range(3):
        assert installation.refused("dbbackup", "-d", "dev")
    store.write("dev-20990101T000000Z-abcdefabcdef.dump.zst", [b"x"], operation="a" * 12)
    _add(store, "cut-off", 0)
    (installation.home / "backups" / "cut-off").write_bytes(b"an arch")
    result = installation.result("prune_backups", "--noinput")
    assert sorted(result["deleted"]) == ["good500", "good600"]
    assert store.read_manifest("good400")


def test_verified_and_pinned_ones_stay_and_a_new_catalogue_knows_the_pin(
    history: Installation,
) -> None:
    assert history.result("prune_backups", "--pin", "d17") == {"name": "d17", "pinned": True}
    assert _pinned_rows(history) == ["d17"]
    with _control(history) as control:
        control.execute("DELETE FROM dbops_backup")
    history.result("operations", "sweep")
    assert _pinned_rows(history) == ["d17"]
    with _control(history) as control:
        control.execute("UPDATE dbops_backup SET pinned = (name = 'd16')")
        control.execute("UPDATE dbops_backup SET verified_at = created_at WHERE name = 'd11'")
    history.result("operations", "sweep")
    assert _pinned_rows(history) == ["d17"]
    kept = {
        item["name"]: item["reasons"]
        for item in history.result("prune_backups", "--noinput")["kept"]
    }
    assert (kept["d17"], kept["d11"]) == (["pinned"], ["last verified"])
    assert _listed(history) == [*KEPT, "d11", "d17"]
    history.run("prune_backups", "--unpin", "d17")
    assert _pinned_rows(history) == []
    assert history.result("prune_backups", "--noinput")["deleted"] == ["d17"]
    events = [
        json.loads(line) for line in (history.home / "journal.jsonl").read_text().splitlines()
    ]
    told = [(it["event"], it["details"].get("backup")) for it in events]
    assert {("pinned", "d17"), ("unpinned", "d17")} <= set(told)


def test_a_wrong_name_hears_the_nearest(history: Installation) -> None:
    error = history.refused("prune_backups", "--pin", "d21")
    assert error["code"] == "backup_not_found"
    assert "Did you mean" in error["hint"]
    assert history.refused("prune_backups", "--unpin", "../d01")["code"] == "backup_not_found"
    assert history.refused("prune_backups", "--pin", "", code=2)
    assert history.run("prune_backups", "--pin", "d01", "--dry-run", code=2)
    assert history.refused("prune_backups", "--env", "devel", code=2)


def test_a_backup_that_a_running_restore_uses_stays(installation18: Installation) -> None:
    installation = prepare(installation18)
    installation.variables["BACKUP_RETENTION"] = "daily=1,weekly=0,monthly=0"
    make_loading_slow(installation)
    store = _store(installation)
    manifest = store.read_manifest(installation.variables["BACKUP"])
    with store.reading(manifest.name) as chunks:
        store.write("used", chunks, operation="0" * 12)
    made = datetime.now(UTC) - timedelta(days=30)
    store.seal(replace(manifest, name="used", created_at=made.isoformat()))
    _add(store, "unused", 31, "test")
    installation.result("operations", "sweep")
    restore = installation.start("dbrestore", "-d", "test", "-i", "used", "--noinput")
    wait_for(lambda: tools_of(restore.pid, "pg_restore") != [])
    result = installation.result("prune_backups", "--noinput")
    os.kill(restore.pid, signal.SIGTERM)
    restore.communicate()
    assert {"name": "used", "reasons": ["in use"]} in result["kept"]
    assert "unused" in result["deleted"]
    assert "used" in installation.result("prune_backups", "--noinput")["deleted"]


def test_a_tampered_manifest_is_named_and_not_deleted(history: Installation) -> None:
    file = history.home / "backups" / "d20.metadata"
    forged = json.loads(file.read_text()) | {"environment": "test"}
    file.write_text(json.dumps(forged))
    result = history.result("prune_backups", "--noinput")
    assert "d20" not in result["deleted"]
    (reason,) = next(item["reasons"] for item in result["kept"] if item["name"] == "d20")
    assert "signature" in reason
    assert json.loads(file.read_text()) == forged
    assert file.with_suffix("").read_bytes() == CONTENT


def test_what_verification_found_damaged_is_not_the_last_good_one(history: Installation) -> None:
    history.variables["BACKUP_RETENTION"] = "daily=0,weekly=0,monthly=0"
    for name in ("d01", "d02"):
        (history.home / "backups" / name).write_bytes(CONTENT[::-1])
        assert history.refused("verify_backup", name)["code"] == "backup_invalid"
    (history.home / "backups" / "d02").write_bytes(CONTENT)
    history.result("verify_backup", "d02")
    result = history.result("prune_backups", "--noinput")
    assert {item["name"]: item["reasons"] for item in result["kept"]} == {
        "d02": ["newest good", "last verified"],
        "d01": ["not valid: damaged, as its last verification found"],
    }
    assert _store(history).names() == ["d01", "d02"]


def test_what_the_storage_refuses_is_named_and_the_others_go(history: Installation) -> None:
    if os.geteuid() != 0:
        pytest.skip("holding a file fast needs root")
    held = str(history.home / "backups" / "d10")
    if subprocess.run(["mount", "--bind", held, held], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        answer = history.run("prune_backups", "--noinput", "--json", code=1).json
    finally:
        subprocess.run(["umount", held], check=True)
    assert answer["error"]["code"] == "storage"
    assert "d10" in answer["error"]["message"]
    assert list(answer["result"]["refused"]) == ["d10"]
    assert len(answer["result"]["deleted"]) == 16
    assert _listed(history) == [*KEPT, "d10"]
    last = history.result("operations")["operations"][0]
    assert last["status"] == "failed"
    shown = history.result("operations", "show", last["id"])
    assert shown["outcome"]["deleted"] == answer["result"]["deleted"]
    assert history.result("prune_backups", "--noinput")["deleted"] == ["d10"]


def test_kill_9_in_the_middle_of_deleting_and_a_second_run_ends_it(history: Installation) -> None:
    store = _store(history)
    for number in range(300):
        _add(store, f"more{number:03}", 30 + number)
    history.result("operations", "sweep")
    before = len(store.names())
    process = history.start("prune_backups", "--noinput")
    wait_for(lambda: len(store.names()) < before - 3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    survivors = store.names()
    assert set(KEPT) < set(survivors)
    store.storage.delete("d04")  # as if it had died between an archive and its manifest
    result = history.result("prune_backups", "--noinput")
    assert set(result["deleted"]) >= {*survivors} - {*KEPT}
    assert _listed(history) == store.names() == KEPT
    assert sorted(path.name for path in (history.home / "backups").iterdir()) == sorted(
        [*KEPT, *(f"{name}.metadata" for name in KEPT)]
    )
    assert history.result("prune_backups", "--noinput")["deleted"] == []


def test_two_that_prune_at_once_do_no_harm(history: Installation) -> None:
    pair = [history.start("prune_backups", "--noinput", "--json") for _ in range(2)]
    answers = [process.communicate(timeout=120) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], answers
    assert _listed(history) == _store(history).names() == KEPT


@pytest.mark.parametrize(
    "value", ["7", "daily", "daily=", "daily=-1", "daily=x", "hourly=3", "daily=1,daily=2"]
)
def test_a_malformed_policy_stops_the_command(installation18: Installation, value: str) -> None:
    installation18.variables["BACKUP_RETENTION"] = value
    answer = installation18.run("prune_backups", "--noinput", code=1)
    assert "dbops.E004" in answer.err
    assert "BACKUP_RETENTION" in answer.err


def test_a_layer_left_out_keeps_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    default = {"daily": 7, "weekly": 4, "monthly": 12}
    for value, expected in (
        ("", default),
        ("daily=30", default | {"daily": 30}),
        (" weekly = 0 , monthly=1,", default | {"weekly": 0, "monthly": 1}),
    ):
        monkeypatch.setenv("BACKUP_RETENTION", value)
        assert read_counts(environ.Env(), "BACKUP_RETENTION", default) == expected
