"""A server and a standby that streams from it, for the tests that name the fixtures."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from conftest import wanted_binaries
from psycopg.conninfo import conninfo_to_dict

from eventstore.postgres.embedded import EmbeddedServer
from eventstore.postgres.embedded.binaries import environment, find_binaries, unprivileged_account, within_reach

if TYPE_CHECKING:
    from collections.abc import Iterator


def copy_cluster(primary: EmbeddedServer, directory: Path) -> None:
    """Take a base backup of a running server into a directory for an EmbeddedServer, which then streams from it."""
    account = unprivileged_account(None)
    env = environment()
    programs, _ = within_reach(find_binaries(wanted_binaries()), account, env, directory)
    if account is not None:
        shutil.chown(directory, account.uid, account.gid)
    where = conninfo_to_dict(primary.dsn)
    command = [str(programs / "pg_basebackup"), "-D", str(directory / "data"), "-R", "-c", "fast", "-X", "stream"]
    subprocess.run(
        [*command, "-h", unquote(str(where["host"])), "-p", str(where["port"]), "-U", "postgres"],
        check=True,
        cwd="/",
        env=env,
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else (),
    )


@pytest.fixture(scope="module")
def primary() -> Iterator[EmbeddedServer]:
    """A server of its own, as everything in it is copied."""
    with EmbeddedServer(durable=False, bin_directory=wanted_binaries()) as server:
        yield server


@pytest.fixture(scope="module")
def standby(primary: EmbeddedServer) -> Iterator[EmbeddedServer]:
    """A server that is in recovery, and has all of the other's in a moment."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        directory = Path(place)
        directory.chmod(0o711)
        copy_cluster(primary, directory)
        with EmbeddedServer(directory, durable=False, bin_directory=wanted_binaries()) as server:
            yield server
