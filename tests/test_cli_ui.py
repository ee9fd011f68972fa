"""``eventstore ui``: the explorer on this machine."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from http.client import HTTPConnection

import pytest

from eventstore import Event, PostgresEventStore
from eventstore.cli import main


def test_ui_serves_the_pages_until_ctrl_c(dsn: str, schema: str) -> None:
    with PostgresEventStore.connect(dsn, schema) as store:
        store.append("Order-1", [Event(event_type="Ordered")], 0)
    command = [sys.executable, "-m", "eventstore", "ui", "--no-browser", "--dsn", dsn, "--schema", schema]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.fullmatch(r"eventstore: the explorer is at http://(127\.0\.0\.1:\d+)/; Ctrl-C ends it\n", said)
        assert found, said
        connection = HTTPConnection(found[1], timeout=60)
        connection.request("GET", "/events")
        response = connection.getresponse()
        assert (response.status, b"Order-1" in response.read()) == (200, True)
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
        assert process.wait() in {0, 130}


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("shop", "name a Repository or an Aggregate"),
        ("no_such:thing", "there is no module"),
        ("json:dumps", "is not a"),
    ],
)
def test_ui_refuses_what_is_no_aggregate(
    target: str, says: str, dsn: str, schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ui", "--no-browser", "--app", target, "--dsn", dsn, "--schema", schema]) == 1
    assert says in capsys.readouterr().err


def test_ui_says_that_there_is_no_store(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--no-browser", "--dsn", dsn, "--schema", "nowhere"]) == 1
    assert "eventstore migrate --schema nowhere" in capsys.readouterr().err
