"""dbbackup beside django-dbbackup's as it ships: time, size, temporary disk, memory.

    python benchmarks/backup.py [--size 1] [--rounds 3]

Writes ``benchmarks/results/backup.md``. Times are those of whole commands, the start-up of Python
and Django included, on an embedded server of its own with fsync on.
"""

from __future__ import annotations

import json
import shutil

from harness import (
    MEBI,
    Bench,
    Row,
    Watched,
    measure_big,
    median,
    print_heading,
    report,
    show,
)  # fmt: skip

MEMORY_BAR_MB = 150
METHOD = (
    "Before each command VACUUM ANALYZE and CHECKPOINT; caches are warm. Time is that of the whole "
    "command. Temporary disk is the most that lay in TMPDIR, in files without a name, and in the "
    "storage beyond what stayed there. Memory is the kernel's high-water mark (VmHWM) of the "
    "largest process of the command's tree, looked at fifty times a second; largest of all rounds. "
    "django-dbbackup runs with its defaults (plain_settings.py): pg_dump's own gzip."
)


def bench_backup(bench: Bench) -> list[Row]:
    sizes: dict[str, int] = {}

    def ours() -> Watched:
        seen = bench.watch_ours("dbbackup", "-d", "test", "--json")
        result = json.loads(seen.stdout)["result"]
        sizes["ours"] = result["size"]
        shutil.rmtree(bench.home / "backups")
        return seen

    def peer() -> Watched:
        seen = bench.watch_peer("dbbackup", "--noinput", "-o", "plain.dump")
        sizes["peer"] = (bench.plain / "plain.dump").stat().st_size
        for path in bench.plain.iterdir():
            path.unlink()
        return seen

    seen = bench.interleave({"ours": ours, "peer": peer}, before=bench.settle)
    time = {name: median([it.seconds for it in runs]) for name, runs in seen.items()}
    disk = {name: max(it.temporary for it in runs) / MEBI for name, runs in seen.items()}
    memory = {name: max(it.largest for it in runs) / MEBI for name, runs in seen.items()}
    print_heading()
    rows = [
        report("dbbackup, time", 0.45, time["ours"], time["peer"], "s"),
        report("dbbackup, size", 0.95, sizes["ours"] / MEBI, sizes["peer"] / MEBI, "MB"),
        show(Row("dbbackup, temporary disk", disk["ours"], disk["peer"], "MB", 0, absolute=True)),
        show(Row("dbbackup, memory of its largest process", memory["ours"], memory["peer"], "MB",
                 MEMORY_BAR_MB, absolute=True)),
    ]  # fmt: skip
    return rows + memory_by_process("dbbackup", seen["ours"])


def memory_by_process(command: str, runs: list[Watched]) -> list[Row]:
    """Each program of our command on a row of its own."""
    names = sorted({name for run in runs for name in run.memory})
    peaks = {name: max(run.memory.get(name, 0) for run in runs) / MEBI for name in names}
    return [
        show(Row(f"{command}, memory of {name}", peak, None, "MB", MEMORY_BAR_MB))
        for name, peak in peaks.items()
    ]


def main() -> None:
    measure_big("backup", bench_backup, METHOD, __doc__ or "")


if __name__ == "__main__":
    main()
