"""Measure ourselves beside our peers: pairs, interleaved, in one run; medians and their ratio.

    python benchmarks/run.py [--rounds 3] [NAME ...]

Everything happens on an embedded server of its own, with fsync on, in a temporary directory. Times
are those of whole commands, our start-up of Python and Django included; a bar that is missed is
printed as missed. Backups, restores, copies and triggers have files of their own: backup.py,
restore.py, copy.py, triggers.py.
"""

from __future__ import annotations

import psycopg2
from harness import Bench, median, options_of, print_heading, report, started

from dbops.postgres.connection import session
from dbops.postgres.databases import drop_database, scratch_name
from dbops.postgres.swap import swap_databases


def bench_swap(bench: Bench) -> None:
    outages = []
    target = bench.control.with_database("swapped")
    incoming = scratch_name("swapped", "incoming", "0" * 12)
    previous = scratch_name("swapped", "previous", "0" * 12)
    for name in ("swapped", incoming):
        bench.sql(f'CREATE DATABASE "{name}"')
    for _ in range(max(5, bench.rounds)):
        clients = [psycopg2.connect(**target.libpq_keywords()) for _ in range(80)]
        outages.append(
            swap_databases(target, incoming=incoming, target="swapped", previous=previous)
        )
        for client in clients:
            client.close()
        bench.sql(f'ALTER DATABASE "{previous}" RENAME TO "{incoming}"')
    with session(bench.control) as connection:
        for name in ("swapped", incoming):
            drop_database(connection, name)
    report("swap with 80 clients : 100 ms", 1.0, median(outages), 100.0, "ms")


BENCHES = {
    "swap": bench_swap,
}


def main() -> None:
    parser = options_of(__doc__ or "")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    options = parser.parse_args()
    with started(options.rounds) as bench:
        print_heading()
        for name in options.names or BENCHES:
            BENCHES[name](bench)


if __name__ == "__main__":
    main()
