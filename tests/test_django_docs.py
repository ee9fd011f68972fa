"""docs/django.md: whoever does what it says has an event, a read model and a test."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

import psycopg
import pytest
from http_servers import gunicorn
from psycopg.conninfo import conninfo_to_dict
from readers import Reader, blocks_of

PAGE = Path(__file__).parents[1] / "docs" / "django.md"


@pytest.fixture
def database(dsn: str) -> Iterator[dict[str, str]]:
    """As Django's settings have it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE django_docs")
        server = {name.upper(): str(value) for name, value in conninfo_to_dict(dsn).items()}
        yield {name: server.get(name, "") for name in ("USER", "HOST", "PORT", "PASSWORD")} | {"NAME": "django_docs"}
        connection.execute("DROP DATABASE django_docs WITH (FORCE)")


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl")
def test_from_nothing_to_a_read_model_and_its_test(database: dict[str, str], tmp_path: Path) -> None:
    blocks = blocks_of(PAGE)
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
