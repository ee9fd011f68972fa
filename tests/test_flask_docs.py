"""docs/flask.md: whoever does what it says has an event."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import psycopg
import pytest
from http_servers import environment, gunicorn
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PAGE = Path(__file__).parents[1] / "docs" / "flask.md"


def steps() -> list[tuple[str, str]]:
    """The blocks of its first section, each with its language."""
    text = PAGE.read_text().partition("## From nothing")[2].partition("\n## ")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl")
def test_from_nothing_to_the_first_event(dsn: str, tmp_path: Path) -> None:
    (_, install), (_, app), (_, serve), (_, use) = steps()
    # Installed it is already; the extra is one that there is.
    venv, pip, export = install.splitlines()
    assert venv.startswith("python3 -m venv")
    (extra,) = re.findall(r'pip install "pg-eventstore\[(\w+)\]"', pip)
    assert extra in (metadata("pg-eventstore").get_all("Provides-Extra") or [])
    name, address = re.fullmatch(r"export (\w+)=(postgresql://.*)", export).groups()  # type: ignore[union-attr]
    assert address == "postgresql://user@host/database"

    (tmp_path / "app.py").write_text(app)
    assert app.startswith("# app.py\n")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE flask_docs"))
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    database = make_conninfo(**{**conninfo_to_dict(dsn), "dbname": "flask_docs"})
    variables = environment(**{"PATH": programs, name: database})

    def bash(script: str) -> str:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=variables,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        ).stdout

    migrate, server = serve.splitlines()
    assert "applied 0001_events" in bash(migrate)
    _, *options, target = server.split()
    with gunicorn(target, tmp_path, variables, *options) as client:
        done, *lines = bash(use.replace("localhost:8000", client.address)).splitlines()
    assert done == '{"done":true,"title":"water-the-plants","version":2}'
    assert ["TaskOpened" in lines[0], "TaskDone" in lines[1], len(lines)] == [True, True, 2]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP DATABASE flask_docs WITH (FORCE)")


def test_the_test_on_the_page_passes(tmp_path: Path) -> None:
    app = steps()[1][1]
    (test,) = re.findall(r"^```python\n(# test_app\.py\n.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "app.py").write_text(app)
    (tmp_path / "test_app.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:django", "--rootdir", "."]
    variables = {name: value for name, value in environment().items() if not name.startswith("FLASK_")}
    ended = subprocess.run(command, cwd=tmp_path, env=variables, check=False, text=True, capture_output=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout
