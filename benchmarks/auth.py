"""The API's doors under gunicorn and PostgreSQL: sign-ins, refreshes, reads with and without a
token, readers while a flood of sign-ins runs, and twice the clients.

    python benchmarks/auth.py [--rounds 3] [--seconds 4]

Writes ``benchmarks/results/auth.md``. Server, database and clients share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any

import psutil
from harness import ROOT, Bench, Row, median, print_heading, show, started, write_results

CLIENTS, USERS, PASSWORD = 8, 32, "correct horse 7 battery"
_REFUSED_SECONDS = 0.1
MAKE = f"""
from accounts.models import User
for it in range({USERS}): User.objects.create_user(f"user{{it}}", password={PASSWORD!r})
"""
METHOD = (
    "gunicorn with 2 workers of 4 threads, Argon2id at 19 MiB, 8 clients that ask again at once "
    "(refused sign-ins after 0.1 s), all of it on the same cores, and other work on the machine "
    "meanwhile. Limits of requests are off, but where they are named. The peer of a read with a "
    "token is the same view (20 rows) without; of readers in a flood, the same 2 readers alone. "
    "The flood is 8 clients that sign in, and again 0.1 s after each answer. 15 sign-ins a second "
    "are 66.7 ms each, 100 refreshes 10 ms; 0.6 times the reads is 1.667 times the time."
)


@dataclass
class Load:
    """What a set of clients was answered."""

    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)

    @property
    def milliseconds_each(self) -> float:
        return 1000 * self.seconds / max(1, self.codes[200])

    @property
    def p95(self) -> float:
        return 1000 * statistics.quantiles(self.waits, n=20)[-1]

    @property
    def errors(self) -> int:
        return sum(count for code, count in self.codes.items() if code >= 500 or code == 0)


class Client:
    """One connection that stays open."""

    def __init__(self, port: int, name: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self.name = f"user{name % USERS}"
        self.pair: dict[str, str] = {}

    def ask(self, method: str, path: str, body: Any = None, access: str = "") -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        if access:
            headers["Authorization"] = f"Bearer {access}"
        for _ in range(2):  # the server may have closed a connection that was idle
            try:
                self._connection.request(method, path, json.dumps(body) if body else None, headers)
                answer = self._connection.getresponse()
                return answer.status, json.loads(answer.read() or b"null")
            except (OSError, HTTPException):
                self._connection.close()
        return 0, None

    def sign_in(self) -> int:
        code, found = self.ask(
            "POST", "/api/auth/token/", {"username": self.name, "password": PASSWORD}
        )
        self.pair = found if code == 200 else self.pair
        if code == 429:
            time.sleep(_REFUSED_SECONDS)
        return code

    def sign_in_unhurried(self) -> int:
        code = self.sign_in()
        time.sleep(0 if code == 429 else _REFUSED_SECONDS)
        return code

    def refresh(self) -> int:
        code, found = self.ask(
            "POST", "/api/auth/token/refresh/", {"refresh": self.pair["refresh"]}
        )
        self.pair = found if code == 200 else self.pair
        return code

    def read(self) -> int:
        return self.ask("GET", "/bench/shut/", access=self.pair["access"])[0]

    def read_openly(self) -> int:
        return self.ask("GET", "/bench/open/")[0]


def load(clients: list[Client], act: Callable[[Client], int], seconds: float) -> Load:
    """Let each act again and again."""
    found, lock = Load(), threading.Lock()
    began = time.monotonic()

    def go(client: Client) -> None:
        while time.monotonic() - began < seconds:
            asked = time.monotonic()
            code = act(client)
            with lock:
                found.codes[code] += 1
                found.waits.append(time.monotonic() - asked)

    threads = [threading.Thread(target=go, args=(it,)) for it in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.seconds = time.monotonic() - began
    return found


@contextmanager
def served(bench: Bench, limits: str) -> Iterator[tuple[int, psutil.Process]]:
    """(the port gunicorn listens on, its first process)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environment = bench.environment | {
        "DEBUG": "false", "API_LIMITS": limits, "DJANGO_SETTINGS_MODULE": "auth_settings",
        "PYTHONPATH": f"{ROOT}/benchmarks:{ROOT}",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "skinspire.wsgi", f"--bind=127.0.0.1:{port}",
         "--workers=2", "--threads=4", "--keep-alive=75", "--log-level=error"],
        cwd=ROOT, env=environment, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        client = Client(port, 0)
        while client.ask("GET", "/bench/open/")[0] != 200:
            if process.poll() is not None:
                raise SystemExit("gunicorn did not start")
            time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def signed_in(port: int, count: int, first: int = 0) -> list[Client]:
    clients = [Client(port, first + it) for it in range(count)]
    for client in clients:
        while client.sign_in() != 200:
            time.sleep(0.2)
    return clients


def flooded(port: int, readers: list[Client], seconds: float) -> tuple[Load, Load]:
    """(readers, flood)."""
    flood = [Client(port, 8 + it) for it in range(CLIENTS)]
    found: list[Load] = []
    thread = threading.Thread(
        target=lambda: found.append(load(flood, Client.sign_in_unhurried, seconds + 1))
    )
    thread.start()
    time.sleep(0.5)
    reading = load(readers, Client.read, seconds)
    thread.join()
    return reading, found[0]


def measure(bench: Bench, seconds: float) -> list[Row]:
    with served(bench, "sign-in=0,open=0,signed-in=0") as (port, server):
        rows = [*rates(bench, port, server, seconds)]
        rows += reads(bench, port, server, seconds)
        rows.append(under_flood(bench, port, seconds, "from many addresses"))
        rows.append(twice(port, seconds))
    with served(bench, "sign-in=60,open=0,signed-in=0") as (port, _):
        rows.append(under_flood(bench, port, seconds, "from one address, 60 a minute"))
    return rows


def rates(bench: Bench, port: int, server: psutil.Process, seconds: float) -> list[Row]:
    clients = signed_in(port, CLIENTS)
    rows = []
    for what, act, bar in (("sign-in", Client.sign_in, 66.7), ("refresh", Client.refresh, 10.0)):
        found, spent = [], []
        for _ in range(bench.rounds):
            before = processor_time(server)
            found.append(load(clients, act, seconds))
            spent.append(1000 * (processor_time(server) - before) / max(1, found[-1].codes[200]))
        each = median([it.milliseconds_each for it in found])
        rows.append(show(Row(f"a {what}, 8 clients", each, None, "ms", bar)))
        title = f"processor time of gunicorn for a {what}, of two cores"
        rows.append(show(Row(title, median(spent), None, "ms", 2 * bar)))
    return rows


def processor_time(server: psutil.Process) -> float:
    """Seconds that gunicorn and its workers have had, which other work on the machine does not
    make more."""
    return sum(sum(it.cpu_times()[:2]) for it in (server, *server.children()))


def reads(bench: Bench, port: int, server: psutil.Process, seconds: float) -> list[Row]:
    clients = signed_in(port, CLIENTS)

    def read(act: Callable[[Client], int]) -> tuple[float, float]:
        before = processor_time(server)
        found = load(clients, act, seconds)
        spent = 1000 * (processor_time(server) - before) / max(1, found.codes[200])
        return found.milliseconds_each, spent

    found = bench.interleave(
        {"shut": lambda: read(Client.read), "open": lambda: read(Client.read_openly)}
    )
    shut, open_ = ([median(column) for column in zip(*it, strict=True)] for it in found.values())
    return [
        show(Row("a read with a token : without", shut[0], open_[0], "ms", 1.667)),
        show(Row("processor time of gunicorn for it : without", shut[1], open_[1], "ms", 1.667)),
    ]


def under_flood(bench: Bench, port: int, seconds: float, what: str) -> Row:
    readers = signed_in(port, 2, 30)
    found = bench.interleave(
        {
            "alone": lambda: load(readers, Client.read, seconds).p95,
            "flooded": lambda: flooded(port, readers, seconds)[0].p95,
        }
    )
    title = f"p95 of readers in a flood of sign-ins {what} : alone"
    return show(Row(title, median(found["flooded"]), median(found["alone"]), "ms", 2))


def twice(port: int, seconds: float) -> Row:
    """Everything at once by twice the clients."""
    clients = signed_in(port, 2 * CLIENTS)
    acts = [Client.sign_in, Client.refresh, Client.read, Client.read_openly]

    def act(client: Client) -> int:
        return acts[int(client.name[4:]) % len(acts)](client)

    found = load(clients, act, 2 * seconds)
    return show(Row("answers 5xx, 16 clients of every kind", found.errors, None, "", 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    with started(options.rounds) as bench:
        subprocess.run(
            [sys.executable, "manage.py", "shell", "-c", MAKE],
            cwd=ROOT, env=bench.environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        print_heading()
        before = os.getloadavg()[0]
        rows = measure(bench, options.seconds)
        method = f"{METHOD} Load average before: {before:.1f} over one minute."
        write_results(bench, "auth", 1, method, rows, f"{USERS} accounts in a database")


if __name__ == "__main__":
    main()
