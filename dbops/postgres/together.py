"""Several jobs side by side, of which the first failure ends all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from dbops.postgres.process import Poll

Job = Callable[[Poll], None]
"""Works, and calls what it is given often: it raises once another job has failed."""
_WATCH_SECONDS = 0.5


def run_together(
    jobs: Sequence[Job],
    poll: Poll,
    watch: Callable[[], None] | None = None,
    interrupt: Callable[[], None] | None = None,
    every: float = _WATCH_SECONDS,
) -> None:
    """Run the jobs in threads of their own until all are done.

    Args:
        watch: called every so many seconds meanwhile, in this thread.
        interrupt: called as often once one has failed, or ``poll`` has raised: for jobs that wait
            where they cannot hear of it.

    Raises:
        what the first job that failed raised, or ``poll`` or ``watch``.
    """
    failed: list[BaseException] = []

    def poll_all() -> None:
        poll()
        if failed:  # one that failed ends the others
            raise failed[0]

    def work(job: Job) -> None:
        try:
            job(poll_all)
        except BaseException as error:
            failed.append(error)

    with ThreadPoolExecutor(len(jobs) or 1) as pool:
        running = {pool.submit(work, job) for job in jobs}
        try:
            _until_one_fails(running, failed, watch, every)
        except BaseException as error:  # a signal: the jobs are told before they are waited for
            failed.append(error)
            raise
        finally:
            _until_all_end(running, interrupt, every)
    if failed:
        raise failed[0]


def _until_one_fails(
    jobs: set[Future[None]],
    failed: list[BaseException],
    watch: Callable[[], None] | None,
    every: float,
) -> None:
    """Wait for all of them, or for the first failure."""
    running = jobs
    while running and not failed:
        running = wait(running, every).not_done
        if watch and running and not failed:
            watch()


def _until_all_end(
    jobs: set[Future[None]], interrupt: Callable[[], None] | None, every: float
) -> None:
    running = {job for job in jobs if not job.done()}
    while running:
        if interrupt:
            interrupt()
        running = wait(running, every).not_done
