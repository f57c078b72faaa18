"""dbrestore beside django-dbbackup's as it ships: time, outage, memory.

    python benchmarks/restore.py [--size 1] [--rounds 3]

Writes ``benchmarks/results/restore.md``. Both restore into the database in use, which a reader
polls every 5 ms; then ours once more per round with 80 clients connected.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from backup import MEMORY_BAR_MB, memory_by_process
from harness import (
    MEBI,
    Bench,
    Reader,
    Row,
    Watched,
    clients,
    measure_big,
    median,
    print_heading,
    report,
    show,
)  # fmt: skip

CLIENTS = 80
METHOD = (
    "Before each command VACUUM ANALYZE and CHECKPOINT; caches are warm. Time is that of the whole "
    "command; ours builds aside, proves and swaps, and drops what the restore before had kept. "
    "The reader polls one row by its key every 5 ms, connecting anew when it is cut off; its wait "
    "is the longest time between two answers. The outage with clients is what the command itself "
    f"measured from the first session ended to the commit of the swap, with {CLIENTS} sessions and "
    "the reader connected. Memory and temporary disk (the server's own not among them) as in "
    "backup.md. After every restore the rows of two tables are counted, outside the time."
)


@dataclass(frozen=True)
class Restored:
    """One restore and what its readers noticed."""

    watched: Watched
    wait: float
    outage_ms: float = 0.0


def bench_restore(bench: Bench) -> list[Row]:
    name = json.loads(bench.manage("dbbackup", "-d", "test", "--json"))["result"]["name"]
    bench.watch_peer("dbbackup", "--noinput", "-o", "plain.dump")
    counts = (
        "SELECT (SELECT count(*) FROM public.pgbench_accounts), "
        "       (SELECT count(*) FROM clinic.notes)"
    )
    expected = bench.row(counts)

    def check() -> None:
        if bench.row(counts) != expected:
            raise SystemExit(f"Restored {bench.row(counts)} rows instead of {expected}.")

    def ours(count: int = 0) -> Restored:
        with clients(bench.control.with_database("test"), count), Reader(bench) as reader:
            seen = bench.watch_ours(
                "dbrestore", "-d", "test", "-i", name, "--noinput", "--json"
            )  # fmt: skip
        check()
        return Restored(seen, reader.longest, json.loads(seen.stdout)["result"]["outage_ms"])

    def peer() -> Restored:
        with Reader(bench) as reader:
            seen = bench.watch_peer(
                "dbrestore", "--noinput", "-d", "default", "-i", "plain.dump"
            )  # fmt: skip
        check()
        return Restored(seen, reader.longest)

    runs = bench.interleave(
        {"ours": ours, "peer": peer, "clients": lambda: ours(CLIENTS)}, before=bench.settle
    )
    time = {name: median([run.watched.seconds for run in them]) for name, them in runs.items()}
    wait = {name: median([run.wait for run in them]) for name, them in runs.items()}
    outage = {name: median([run.outage_ms for run in them]) for name, them in runs.items()}
    memory = {name: max(run.watched.largest for run in them) / MEBI for name, them in runs.items()}
    disk = {name: max(run.watched.temporary for run in them) / MEBI for name, them in runs.items()}
    print_heading()
    rows = [
        report("dbrestore, time", 0.80, time["ours"], time["peer"], "s"),
        report("dbrestore, longest wait of a reader", 0.02, wait["ours"], wait["peer"], "s"),
        show(Row("dbrestore, its own outage", outage["ours"], None, "ms", None)),
        show(Row(f"dbrestore, its own outage with {CLIENTS} clients", outage["clients"], None,
                 "ms", 100)),
        show(Row(f"dbrestore, longest wait of a reader with {CLIENTS} clients", wait["clients"],
                 None, "s", None)),
        show(Row("dbrestore, temporary disk", disk["ours"], disk["peer"], "MB", 0, absolute=True)),
        show(Row("dbrestore, memory of its largest process", memory["ours"], memory["peer"], "MB",
                 MEMORY_BAR_MB, absolute=True)),
    ]  # fmt: skip
    return rows + memory_by_process("dbrestore", [run.watched for run in runs["ours"]])


def main() -> None:
    measure_big("restore", bench_restore, METHOD, __doc__ or "")


if __name__ == "__main__":
    main()
