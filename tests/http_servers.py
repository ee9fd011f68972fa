"""Applications under gunicorn, and requests to them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from waiting import PATIENCE


def environment(**more: str) -> dict[str, str]:
    """That of this process, with more, for another program.

    Not psycopg's implementation in Python: the program would have to find a libpq as tests/_libpq.py does.
    """
    return {name: value for name, value in os.environ.items() if name != "PSYCOPG_IMPL"} | more


class Answer(NamedTuple):
    status: int
    body: Any


class Client:
    """Requests with JSON bodies, each on a connection of its own."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str) -> Answer:
        return self._request("GET", path, None, {})

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self._request("POST", path, body, headers)

    def post_many(self, path: str, bodies: Sequence[Any], threads: int, **headers: str) -> list[Answer]:
        """At once, from so many threads."""
        with ThreadPoolExecutor(threads) as executor:
            return list(executor.map(lambda body: self.post(path, body, **headers), bodies))

    def _request(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        connection = HTTPConnection(self.address, timeout=PATIENCE)
        try:
            content = None if body is None else json.dumps(body)
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            names |= {"Content-Type": "application/json", "Connection": "close"}
            connection.request(method, path, content, names)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        is_json = (response.getheader("Content-Type") or "").startswith("application/json")
        return Answer(response.status, json.loads(text) if is_json else text)


def gunicorn(
    app: str, directory: Path, environment: Mapping[str, str], *options: str
) -> AbstractContextManager[Client]:
    """An application under gunicorn, on a port that is free."""
    server = ("-m", "gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket", *options, app)
    return serving(server, directory, environment)


@contextmanager
def serving(arguments: Sequence[str | Path], directory: Path, environment: Mapping[str, str]) -> Iterator[Client]:
    """A program of Python's that runs gunicorn. SIGTERM stops it, without a word."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=directory,
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    listening = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if "Listening at" in line:
                listening.set()
        listening.set()  # It has ended.

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert listening.wait(PATIENCE)
        found = re.search(r"Listening at: http://([\d.:]+)", "".join(lines))
        assert found, "".join(lines)
        yield Client(found[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, "".join(lines)
    finally:
        process.kill()
        process.wait()
        reader.join(PATIENCE)
        if process.stderr is not None:
            process.stderr.close()
    assert "Traceback" not in "".join(lines), "".join(lines)
