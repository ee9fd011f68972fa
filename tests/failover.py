"""A failover under load: Patroni, etcd and two PostgreSQL servers on this machine, out of the system's packages.

``python tests/failover.py --help``. Writers, readers, a subscription and a projection work while the leader is crashed:
Patroni, the postmaster and every backend get SIGKILL at once. The campaign's checker then compares what was
acknowledged and read with what is stored. Exit status 0 if nothing is lost, doubled or skipped.

On Debian: ``apt-get install --no-install-recommends patroni etcd-server postgresql``. Run by root, the programs run as
``postgres``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

import psycopg

from eventstore import Event, PostgresEventStore, Projection, Subscription
from eventstore.postgres import migrate
from eventstore.testing.campaign import checker
from eventstore.testing.campaign.workers import Assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

NODES = ("one", "two")
PATIENCE = 120.0
ENOUGH_APPENDS = 1000
"""How many are acknowledged before a crash, with both servers at work."""
AFTER_SECONDS = 5.0
"""Of work after the first append that was acknowledged since the crash."""
STOPPED_SECONDS = 1.5
"""How long an asynchronous standby gets nothing before the crash, so that there is something to lose."""


def programs() -> dict[str, Path]:
    """The programs by name. Raises LookupError for one that is not installed."""
    found: dict[str, Path] = {}
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    for name in ("patroni", "etcd", "postgres"):
        program = shutil.which(name, path=str(servers[-1]) if name == "postgres" and servers else None)
        if program is None:
            raise LookupError(f"{name} is not installed: apt-get install patroni etcd-server postgresql")
        found[name] = Path(program)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def eventually(what: str, condition: Callable[[], Any]) -> Any:
    """What a condition returns as soon as that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {PATIENCE:.0f} s")
        time.sleep(0.1)
    return found


class Node:
    """A server with the Patroni that looks after it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self.name = name
        self.port, self.rest = free_port(), free_port()
        self.data = cluster.place / name
        self.crashed = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start Patroni, which starts the server."""
        configuration = self._cluster.place / f"{self.name}.json"  # JSON is YAML.
        configuration.write_text(json.dumps(self._cluster.configuration(self)))
        configuration.chmod(0o644)
        self.crashed = False
        self._process = self._cluster.launch([str(self._cluster.programs["patroni"]), str(configuration)], self.name)

    def check(self) -> None:
        """Raise ChildProcessError with the end of its log if Patroni has ended by itself."""
        if self._process is not None and self._process.poll() is not None and not self.crashed:
            log = (self._cluster.place / f"{self.name}.log").read_text()
            raise ChildProcessError(f"Patroni of node {self.name} has ended: {log[-2000:]}")

    def crash(self) -> None:
        """End Patroni, the postmaster and every backend at once, without a word to anybody."""
        assert self._process is not None
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        self.crashed = True
        self._process.kill()
        for pid in (postmaster, *children(postmaster)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End both in order, as far as they run."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
                return
            self.crash()

    def walsenders(self) -> list[int]:
        """The processes that send the write-ahead log to the other server."""
        with psycopg.connect(self._cluster.dsn) as connection:
            rows = connection.execute("SELECT pid FROM pg_stat_replication").fetchall()
        return [pid for (pid,) in rows]


class Cluster:
    """Two nodes, and the etcd that they agree through."""

    def __init__(self, place: Path, *, synchronous: bool) -> None:
        self.place = place
        self.programs = programs()
        self._synchronous = synchronous
        self._account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self._account is not None:
            os.chown(place, self._account.pw_uid, self._account.pw_gid)
        self._etcd_port = free_port()
        self._etcd: subprocess.Popen[bytes] | None = None
        self.nodes = {name: Node(self, name) for name in NODES}

    @property
    def dsn(self) -> str:
        """Both servers, of which the one that takes writes is meant."""
        hosts = ",".join("127.0.0.1" for _ in self.nodes)
        ports = ",".join(str(node.port) for node in self.nodes.values())
        return (
            f"host={hosts} port={ports} user=postgres dbname=postgres target_session_attrs=read-write connect_timeout=2"
        )

    def launch(self, command: Sequence[str], name: str) -> subprocess.Popen[bytes]:
        account = self._account
        with (self.place / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.place,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if not name.startswith(("PG", "PYTHON", "LC_"))},
                user=None if account is None else account.pw_uid,
                group=None if account is None else account.pw_gid,
                extra_groups=None if account is None else (),
            )

    def start(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{free_port()}"
        urls = ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
        urls += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
        self._etcd = self.launch([str(self.programs["etcd"]), "--data-dir", str(self.place / "etcd"), *urls], "etcd")
        for node in self.nodes.values():
            node.start()
        self.wait_until_whole()

    def stop(self) -> None:
        for node in self.nodes.values():
            node.stop()
        if self._etcd is not None:
            self._etcd.terminate()
            self._etcd.wait()

    def configuration(self, node: Node) -> dict[str, Any]:
        here = f"127.0.0.1:{node.rest}"
        return {
            "scope": "failover",
            "name": node.name,
            "restapi": {"listen": here, "connect_address": here},
            "etcd3": {"host": f"127.0.0.1:{self._etcd_port}"},
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 5,
                    "retry_timeout": 5,
                    "synchronous_mode": self._synchronous,
                    "maximum_lag_on_failover": 1 << 30,
                    "postgresql": {
                        "use_pg_rewind": True,
                        "parameters": {"max_connections": 100, "wal_log_hints": "on"},
                    },
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
                "pg_hba": ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{node.port}",
                "connect_address": f"127.0.0.1:{node.port}",
                "data_dir": str(node.data),
                "bin_dir": str(self.programs["postgres"].parent),
                "pgpass": str(self.place / f"{node.name}.pgpass"),
                "authentication": {
                    role: {"username": "postgres", "password": "none"}
                    for role in ("superuser", "replication", "rewind")
                },
                "parameters": {"unix_socket_directories": str(self.place)},
            },
        }

    def members(self) -> dict[str, str]:
        """The roles of the nodes that run, by name, as one of them tells."""
        for node in self.nodes.values():
            node.check()
            with (
                suppress(URLError, OSError, ValueError),
                urlopen(f"http://127.0.0.1:{node.rest}/cluster", timeout=2) as reply,
            ):
                found = json.load(reply)["members"]
                return {each["name"]: each["role"] for each in found if each["state"] in {"running", "streaming"}}
        return {}

    def leader(self) -> Node:
        """The node that takes writes, according to those that run."""
        node: Node = eventually("a leader", self.leads)
        return node

    def leads(self) -> Node | None:
        """That node, if there is one now."""
        names = [name for name, role in self.members().items() if role == "leader"]
        return self.nodes[names[0]] if names else None

    def wait_until_whole(self) -> None:
        """Return when both run, and the one that follows is synchronous if it is to be."""
        follower = "sync_standby" if self._synchronous else "replica"
        eventually("leader and standby", lambda: sorted(self.members().values()) == sorted(["leader", follower]))


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], check=False, capture_output=True, text=True)
    return [int(line) for line in listed.stdout.split()]


class Workers:
    """Writers and readers of the campaign, each a process with a history in a directory."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self._directory = directory
        self._dsn = dsn
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def hire(self, role: str, number: int, tasks: int) -> None:
        name = f"{role}-{number}"
        assignment = Assignment(
            role=role,
            dsn=f"{self._dsn} application_name={name}",
            history=str(self._directory / f"{name}.0001.jsonl"),
            seed=name,
            streams=20,
            position=0,
            planted=None,
            tasks=tasks,
        )
        command = [sys.executable, "-m", "eventstore.testing.campaign.workers", json.dumps(asdict(assignment))]
        with self._errors(name).open("wb") as errors:
            self._processes[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors)

    def _errors(self, name: str) -> Path:
        return self._directory / f"{name}.stderr"

    def finish(self, role: str) -> None:
        """Let all of a role finish what they are at."""
        mine = {name: process for name, process in self._processes.items() if name.startswith(role)}
        for process in mine.values():
            assert process.stdin is not None
            process.stdin.close()
        for name, process in mine.items():
            if process.wait(PATIENCE):
                errors = self._errors(name).read_text()
                raise ChildProcessError(f"{name} ended with status {process.returncode}: {errors[-2000:]}")

    def kill(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def acknowledged(self) -> list[float]:
        """When appends were acknowledged, in order."""
        found: list[float] = []
        for path in self._directory.glob("writer-*.jsonl"):
            lines = path.read_bytes().splitlines(keepends=True)
            found += [json.loads(line)["t"] for line in lines if b'"what":"ok"' in line and line.endswith(b"\n")]
        return sorted(found)


@contextmanager
def following(dsn: str) -> Generator[tuple[PostgresEventStore, list[int], Subscription, Projection[Any]], None, None]:
    """A subscription that notes positions here, and a projection that counts them in a table."""
    handled: list[int] = []

    def count(event: Event, transaction: Any) -> None:
        transaction.connection.execute(
            "INSERT INTO counted AS old VALUES (%s, 1) ON CONFLICT (position) DO UPDATE SET times = old.times + 1",
            (event.position,),
        )

    with PostgresEventStore.connect(dsn) as store:
        subscription = Subscription(store, "handled", lambda event: handled.append(event.position))
        projection = Projection(store, "counted", count)
        threads = [threading.Thread(target=each.run) for each in (subscription, projection)]
        for thread in threads:
            thread.start()
        try:
            yield store, handled, subscription, projection
        finally:
            subscription.stop()
            projection.stop()
            for thread in threads:
                thread.join()


def stored(dsn: str, path: Path) -> set[int]:
    """Copy the table for the checker; return its positions."""
    statement = "COPY (SELECT position, stream_id, version, event_id FROM eventstore.events) TO STDOUT"
    with psycopg.connect(dsn) as connection, path.open("wb") as file, connection.cursor().copy(statement) as rows:
        for row in rows:
            file.write(row)
    return {int(line.split("\t")[0]) for line in path.read_text().splitlines()}


def fail_over(cluster: Cluster, workers: Workers, *, stopping: bool) -> float:
    """Crash the leader; return how many seconds passed between two acknowledged appends around that."""
    leader = cluster.leader()
    if stopping:
        for pid in leader.walsenders():
            os.kill(pid, signal.SIGSTOP)
        time.sleep(STOPPED_SECONDS)
    crashed = time.monotonic()
    leader.crash()
    eventually("another leader", lambda: cluster.leads() not in {None, leader})
    eventually("an append", lambda: max(workers.acknowledged(), default=0.0) > crashed + 1)
    time.sleep(AFTER_SECONDS)
    moments = [moment for moment in workers.acknowledged() if moment > crashed - 1]
    leader.start()
    return max(after - before for before, after in pairwise(moments))


def run(crashes: int, writers: int, *, synchronous: bool, directory: Path) -> dict[str, Any]:
    """Carry it out, and return the checker's report with what was found beside it."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="failover-", dir="/tmp")))
        place.chmod(0o755)
        cluster = Cluster(place, synchronous=synchronous)
        stack.callback(cluster.stop)
        cluster.start()
        eventually("a leader that takes writes", cluster.leads)
        migrate(cluster.dsn)
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE counted (position bigint PRIMARY KEY, times integer NOT NULL)")
        workers = Workers(directory, cluster.dsn)
        stack.callback(workers.kill)
        for number in range(1, writers + 1):
            workers.hire("writer", number, 0 if number % 2 else 2)
        for number in (1, 2):
            workers.hire("reader", number, number - 1)
        outages: list[float] = []
        with following(cluster.dsn) as (store, handled, subscription, projection):
            for _ in range(crashes):
                cluster.wait_until_whole()
                since = len(workers.acknowledged())
                eventually("appends", lambda since=since: len(workers.acknowledged()) > since + ENOUGH_APPENDS)
                outages.append(round(fail_over(cluster, workers, stopping=not synchronous), 1))
            workers.finish("writer")
            workers.finish("reader")
            for each in (subscription, projection):
                each.wait_until_processed(store.last_position(), timeout=PATIENCE)
        positions = stored(cluster.dsn, directory / "events.tsv")
        with psycopg.connect(cluster.dsn) as connection:
            counted = dict(connection.execute("SELECT position, times FROM counted").fetchall())
    command = [sys.executable, "-I", "-S", checker.__file__, str(directory)]
    report: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    report["seconds without an acknowledged append"] = outages
    report["anomalies"] |= {
        "subscription skipped": len(positions - set(handled)),
        "projection skipped": len(positions - counted.keys()),
        "projection counted twice, or what is not there": sum(
            times != 1 or position not in positions for position, times in counted.items()
        ),
    }
    report["facts"]["handled again by the subscription"] = len(handled) - len(set(handled))
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description="Crash the leader of a Patroni cluster under load, and check the log.")
    parser.add_argument("--crashes", type=int, default=1, help="how often (default: %(default)s)")
    parser.add_argument("--writers", type=int, default=4, help="processes (default: %(default)s)")
    parser.add_argument(
        "--asynchronous",
        action="store_true",
        help="with a standby that gets nothing in the last moments: appends are lost, and the check must find that",
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Cleans up as Ctrl-C does.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # That connections are lost is no news here.
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        report = run(
            arguments.crashes, arguments.writers, synchronous=not arguments.asynchronous, directory=Path(directory)
        )
    report["seconds"] = round(time.monotonic() - began, 1)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 1 if any(report["anomalies"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
