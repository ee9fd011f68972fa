"""The fault campaign: a short clean one finds nothing, and planted bugs are caught.

By default a campaign of 15 s and two planted bugs, one in the database and one in the client: about 50 s. With
EVENTSTORE_TEST_CAMPAIGN=full one of 50 s and every planted bug: about 2 minutes. docs/reliability.md tells of the
long one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from conftest import wanted_binaries

from eventstore.postgres import migrate
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.testing.campaign.planted import BUGS, plant

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = os.environ.get("EVENTSTORE_TEST_CAMPAIGN") == "full"
COMMAND = [sys.executable, "-m", "eventstore.testing.campaign"]

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="it stops and kills processes by POSIX signals"),
    pytest.mark.skipif(
        "EVENTSTORE_TEST_PG" in os.environ, reason="it is long: it runs with the README's command, not in every cell"
    ),
]


@pytest.fixture
def environment() -> dict[str, str]:
    # Not psycopg's implementation in Python: the programs would have to find a libpq as tests/_libpq.py does.
    variables = {name: value for name, value in os.environ.items() if name != "PSYCOPG_IMPL"}
    binaries = wanted_binaries()
    return variables if binaries is None else variables | {"EVENTSTORE_PG_BIN": str(binaries)}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, which a server started by root can enter; it can't enter pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        Path(path).chmod(0o711)
        yield Path(path)


def run_campaign(directory: Path, environment: dict[str, str], *options: str) -> dict[str, Any]:
    command = [*COMMAND, "--directory", str(directory), *options]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=240)
    path = directory / "report.json"
    assert path.exists(), done.stdout + done.stderr
    report: dict[str, Any] = json.loads(path.read_text())
    assert done.returncode == (0 if report["clean"] else 1)
    return report | {"printed": done.stdout + done.stderr}


def test_nothing_goes_wrong_while_everything_breaks(tmp_path: Path, environment: dict[str, str]) -> None:
    report = run_campaign(tmp_path / "histories", environment, "--seconds", "50" if FULL else "15", "--appends", "200")
    assert report["clean"], report["printed"]
    assert all(report["faults"].values())
    assert report["facts"]["appends acknowledged"] >= 200


def test_a_campaign_that_did_too_little_shows_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    little = ["--seconds", "1", "--minimum", "0", "--writers", "2", "--readers", "1", "--appends", "1000000"]
    report = run_campaign(tmp_path / "histories", environment, *little)
    assert not report["clean"]
    assert not any(report["anomalies"].values()), report["printed"]
    assert "appends were acknowledged, not 1000000" in report["printed"]


@pytest.mark.parametrize("name", BUGS if FULL else ["skip", "not-there-means-failed"])
def test_the_campaign_catches_each_planted_bug(name: str, tmp_path: Path, environment: dict[str, str]) -> None:
    report = run_campaign(tmp_path / "histories", environment, "--planted", name, "--seconds", "30")
    assert report["caught"], report["printed"]


def test_every_bug_can_be_planted() -> None:
    """The texts that they replace are still there; only two of them are tried in each run."""
    with EmbeddedServer(durable=False) as server, psycopg.connect(server.dsn, autocommit=True) as connection:
        for bug in BUGS.values():
            connection.execute("DROP SCHEMA IF EXISTS eventstore CASCADE")
            migrate(connection)
            plant(bug, server.dsn)


def test_ctrl_c_leaves_nothing_behind(place: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    histories = tmp_path / "histories"
    command = [*COMMAND, "--directory", str(histories), "--writers", "2", "--readers", "1"]
    with subprocess.Popen(command, env=environment | {"TMPDIR": str(place)}, stderr=subprocess.PIPE) as campaign:
        deadline = time.monotonic() + 60
        while not any(b'"ok"' in path.read_bytes() for path in histories.glob("writer-*.jsonl")):
            assert campaign.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        campaign.send_signal(signal.SIGINT)
        _, errors = campaign.communicate(timeout=60)
    assert (campaign.returncode, errors) == (130, b"")
    assert list(place.iterdir()) == []
    assert str(place) not in subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True, text=True).stdout
