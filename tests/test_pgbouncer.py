"""Through a real PgBouncer in transaction mode, where one is installed: each transaction may meet another session."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from waiting import eventually

from eventstore import Event, ExpectedVersion, PostgresEventStore, PostgresSnapshotStore, StoreRefused, cli
from eventstore.testing import EventStoreContract, SnapshotStoreContract

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no pgbouncer is installed")

CONFIGURATION = """
[databases]
{dbname} = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {free}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 24
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
"""


def owner_of(host: str) -> str:
    """Whoever may use the server's socket; of a server that is reached by TCP anybody."""
    return Path(host).owner() if host.startswith("/") else "nobody"


@pytest.fixture(scope="module")
def bouncer(dsn: str) -> Iterator[str]:
    """A DSN of the server of the tests, through PgBouncer."""
    server = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free: int = listener.getsockname()[1]
    with TemporaryDirectory() as place:
        settings = Path(place, "pgbouncer.ini")
        settings.write_text(CONFIGURATION.format(free=free, **{"port": "5432", "dbname": "postgres"} | server))
        command = [str(PROGRAM), str(settings)]
        if os.geteuid() == 0:  # It refuses to run as root.
            user = owner_of(server["host"])
            shutil.chown(place, user)
            command[1:1] = ["-u", user]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            through = make_conninfo(
                host="127.0.0.1", port=free, user=server["user"], dbname=server.get("dbname", "postgres")
            )

            def answers() -> bool:
                try:
                    psycopg.connect(through, connect_timeout=2).close()
                except psycopg.OperationalError:
                    return process.poll() is not None
                return True

            try:
                assert eventually(answers), "pgbouncer does not answer"
                assert process.poll() is None, f"pgbouncer has ended with {process.returncode}"
                yield through
            finally:
                process.terminate()


@pytest.fixture
def bounced(bouncer: str, schema: str) -> Iterator[PostgresEventStore]:
    with PostgresEventStore.connect(bouncer, schema, prepare=False) as store:
        yield store


class TestEventStoreBehindPgBouncer(EventStoreContract):
    @pytest.fixture
    def store(self, bounced: PostgresEventStore) -> PostgresEventStore:
        return bounced


class TestSnapshotStoreBehindPgBouncer(SnapshotStoreContract):
    @pytest.fixture
    def store(self, bouncer: str, schema: str) -> Iterator[PostgresSnapshotStore]:
        with PostgresSnapshotStore.connect(bouncer, schema, prepare=False) as store:
            yield store


def test_the_command_line_imports_and_reads_through_pgbouncer(
    bouncer: str, tmp_path: Path, schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("order,what,when\n" + "".join(f"{n % 7},Noted,2024-01-01T00:00:00Z\n" for n in range(50)))
    place = ["--dsn", bouncer, "--schema", schema]
    columns = ["--category", "Order", "--stream", "order", "--type", "what", "--timestamp", "when"]
    for _ in range(2):
        assert cli.main(["import", *place, str(file), *columns, "--no-prepare"]) == 0
    for command in (["streams"], ["status"], ["read", "Order-1"]):
        assert cli.main([command[0], *place, *command[1:]]) == 0
    assert "Order-1" in capsys.readouterr().out


def test_stores_that_share_its_sessions_append_and_read(bouncer: str, schema: str) -> None:
    stores = [PostgresEventStore.connect(bouncer, schema, prepare=False) for _ in range(4)]
    try:
        for number in range(40):
            stores[number % 4].append(f"s{number}", [Event(event_type="T")], ExpectedVersion.NO_STREAM)
        assert len(list(stores[0].read_all())) == 40
    finally:
        for store in stores:
            store.close()


def test_prepared_statements_that_a_pooler_has_mixed_up_are_an_error_that_says_how_to_do_without(
    dsn: str, schema: str
) -> None:
    with PostgresEventStore.connect(dsn, schema, max_size=1) as store:
        store.read("s")
        with store.connections.pool().connection() as connection:
            connection.pgconn.exec_(b"DEALLOCATE ALL")  # As if another session served this client now.
        with pytest.raises(StoreRefused, match=r"mixed up prepared statements; use connect\(\.\.\., prepare=False\)"):
            store.read("s")
