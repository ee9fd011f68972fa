"""The program between a process and its embedded PostgreSQL: started by source, alone, on the standard library."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Supervisor:
    """Starts and stops the server, and stops it when the pipe to the process that asked for it closes.

    An order is a line of JSON, [method, arguments]; so is its answer, [result, failure].
    """

    def __init__(self) -> None:
        self._base: Path | None = None
        self._plan: dict[str, Any] = {}
        self._server: subprocess.Popen[bytes] | None = None
        self._umask = 0o077
        """Of the process that asked for the server."""

    def serve(self) -> None:
        """Follow orders until the pipe closes, then stop the server and clean up."""
        self._umask = os.umask(0o077)  # the log is nobody else's to read
        for name in {"SIGINT", "SIGTERM", "SIGHUP"} & set(dir(signal)):
            signal.signal(getattr(signal, name), self._ignore)
        try:
            for line in sys.stdin:
                sys.stdout.write(json.dumps(self._obey(*json.loads(line))) + "\n")
                sys.stdout.flush()
        except BrokenPipeError:
            pass  # nobody waits for the answer any more
        finally:
            try:
                self.stop("fast")
            finally:
                self._remove_base()

    def _ignore(self, *_: object) -> None:
        """Do nothing about a signal; SIG_IGN would be inherited by the server."""

    def _obey(self, order: str, arguments: dict[str, Any]) -> tuple[Any, str]:
        try:
            return getattr(self, order)(**arguments), ""
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for the one who asked
            return None, str(error) or repr(error)

    def prepare(self, base: str, mode: int) -> None:
        """Make the directory for everything temporary."""
        path = Path(base)
        path.mkdir(mode=0o700)
        self._base = path
        path.chmod(mode)

    def make(self, directory: str, mode: int, acts_as: list[int] | None) -> None:
        """Make the directory that is kept, if it is missing."""
        umask = os.umask(self._umask)
        try:
            with _acting(acts_as):
                Path(directory).mkdir(mode=mode, parents=True, exist_ok=True)
        finally:
            os.umask(umask)

    def start(self, plan: dict[str, Any]) -> int:
        """Start PostgreSQL, on a new cluster if there is none; return its process id when it takes connections."""
        self._plan = plan
        data = Path(plan["data"])
        with self._log(plan) as output:
            begin = output.tell()
            if data.exists() or self._create(data, output.fileno()):
                self._server = server = self._spawn([*plan["postgres"], "-D", str(data)], output.fileno())
                self._until(
                    lambda: server.poll() is not None or self._is_ready(data) or self._is_alone(), plan["seconds"]
                )
                if server.poll() is None and self._is_ready(data):
                    return server.pid
                self.stop("immediate")
            output.seek(begin)
            lines = output.read().decode(errors="replace").splitlines()[-20:]
        raise RuntimeError("\n".join(lines) or f"it was not ready after {plan['seconds']} s")

    def _create(self, data: Path, log: int) -> bool:
        """Make a cluster under another name first: what is called `data` is always whole."""
        fresh = data.with_name(f"{data.name}-{os.getpid()}")
        try:
            with _acting(self._plan["acts_as"]):
                fresh.mkdir(mode=0o700)
            if self._plan["account"] and not self._plan["acts_as"]:
                os.chown(fresh, *self._plan["account"])
            if self._spawn([*self._plan["initdb"], "-D", str(fresh)], log).wait() == 0:
                with _acting(self._plan["acts_as"]):
                    fresh.rename(data)
            return data.exists()
        finally:
            with _acting(self._plan["acts_as"]):
                shutil.rmtree(fresh, ignore_errors=True)

    def _log(self, plan: dict[str, Any]) -> BinaryIO:
        """The server's log. Raises OSError where it is anything but a plain file of its own."""
        with _acting(plan["acts_as"]):
            output = open(plan["log"], "a+b", opener=_without_links)  # noqa: SIM115 the caller closes it
        status = os.fstat(output.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            output.close()
            raise OSError(f"{plan['log']} is not a plain file of its own: remove it")
        return output

    def _spawn(self, command: list[str], log: int) -> subprocess.Popen[bytes]:
        uid, gid = self._plan["account"] or (None, None)
        return subprocess.Popen(  # noqa: S603 - PostgreSQL's own programs
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=self._plan["env"],
            user=uid,
            group=gid,
            extra_groups=None if uid is None else (),
        )

    def _is_ready(self, data: Path) -> bool:
        """Whether the server has written its id and, on the eighth line, its state: this is how pg_ctl waits, too."""
        try:
            lines = data.joinpath("postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return self._server is not None and lines[:1] == [str(self._server.pid)] and lines[7:8] == ["ready   "]

    def _is_alone(self) -> bool:
        """Whether the pipe was closed; while an order is being followed, nothing else makes it readable."""
        return os.name != "nt" and bool(select.select([sys.stdin], [], [], 0)[0])

    def stop(self, mode: str) -> None:
        """Stop the server by degrees: end its sessions, after 10 s let it crash, after 5 s more kill it."""
        server, self._server = self._server, None
        if server is None:
            return
        for name, seconds in (("INT", 10), ("QUIT", 5), ("KILL", 5)):
            if name == "INT" and mode == "immediate":
                continue
            self._signal(server, name)
            if self._until(lambda: server.poll() is not None, seconds):
                return

    def _signal(self, server: subprocess.Popen[bytes], name: str) -> None:
        if os.name != "nt":
            server.send_signal(getattr(signal, f"SIG{name}"))
        elif name == "KILL":
            server.kill()
        else:  # Windows has no signals; PostgreSQL has some of its own, which pg_ctl sends
            command = [str(Path(self._plan["postgres"][0]).with_name("pg_ctl")), "kill", name, str(server.pid)]
            subprocess.run(command, check=False, stdin=subprocess.DEVNULL)  # noqa: S603 - PostgreSQL's own program

    def _remove_base(self) -> None:
        """Remove everything temporary; where the server had to be killed, its children may be writing for a moment."""
        if self._base is not None:
            self._until(self._is_removed, 5)

    def _is_removed(self) -> bool:
        if self._base is not None:
            shutil.rmtree(self._base, ignore_errors=True)
        return self._base is None or not self._base.exists()

    def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o600)


@contextmanager
def _acting(account: list[int] | None) -> Generator[None, None, None]:
    """A block in which files are reached with an account's rights, not with root's."""
    if account is None:
        yield
        return
    uid, gid = account
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


if __name__ == "__main__":
    Supervisor().serve()
