"""docs/django.md: whoever does what it says has an event, a read model and a test."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import metadata
from pathlib import Path
from typing import IO

import psycopg
import pytest
from http_servers import environment, gunicorn
from psycopg.conninfo import conninfo_to_dict
from waiting import PATIENCE

PAGE = Path(__file__).parents[1] / "docs" / "django.md"
FILE = re.compile(r"# ([\w/]+\.py)(, at its end)?\n")


@pytest.fixture
def database(dsn: str) -> Iterator[dict[str, str]]:
    """As Django's settings have it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE django_docs")
        server = {name.upper(): str(value) for name, value in conninfo_to_dict(dsn).items()}
        yield {name: server.get(name, "") for name in ("USER", "HOST", "PORT", "PASSWORD")} | {"NAME": "django_docs"}
        connection.execute("DROP DATABASE django_docs WITH (FORCE)")


class Reader:
    """Somebody who does what the page says, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = environment(PATH=programs, PYTHONWARNINGS="error")

    def writes(self, code: str) -> None:
        """What has the name of a file on its first line."""
        named = FILE.match(code)
        if named:
            path = self.directory / named[1]
            path.write_text(path.read_text() + code if named[2] else code)

    def runs(self, script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.directory,
            env=self.environment,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @contextmanager
    def runs_meanwhile(self, command: str) -> Iterator[IO[str]]:
        """What it says, as long as a block lasts."""
        python, *arguments = command.partition("#")[0].split()
        assert python == "python"
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            yield process.stderr
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.communicate()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl")
def test_from_nothing_to_a_read_model_and_its_test(database: dict[str, str], tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    first, serve, use, read_model, test = (text.splitlines() for language, text in blocks if language == "sh")
    files = [text for language, text in blocks if language == "python"]
    reader = Reader(tmp_path)

    # Installed it is already; the extra is one that there is.
    assert first.pop(0).startswith("python3 -m venv")
    (extra,) = re.findall(r'pip install "pg-eventstore\[(\w+)\]"', first.pop(0))
    assert extra in (metadata("pg-eventstore").get_all("Provides-Extra") or [])
    reader.runs("\n".join(first))
    models = next(number for number, text in enumerate(files) if "# tasks/models.py" in text)
    settings = files[0]
    for name, value in database.items():
        settings = re.sub(f'"{name}": ".*"', f'"{name}": {value!r}', settings)
    for text in (settings, *files[1:models]):
        reader.writes(text)

    migrate, server = serve
    reader.runs(migrate)
    _, *options, target = server.split()
    with gunicorn(target, tmp_path, reader.environment, *options) as client:
        done, *lines = reader.runs("\n".join(use).replace("localhost:8000", client.address)).splitlines()
    assert done == '{"title": "water-the-plants", "done": true, "version": 2}'
    assert ["TaskOpened" in lines[0], "TaskDone" in lines[1], len(lines)] == [True, True, 2]

    for text in files[models:]:
        reader.writes(text)
    *make, run = read_model
    assert "rebuilt task-list: 2 events" in reader.runs("\n".join(make))
    with reader.runs_meanwhile(run) as said:
        assert "running task-list" in said.readline()
    assert "OK" in reader.runs("\n".join(test))
