"""pytest-django: each test finds an empty store, however the database was made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

SETTINGS = """
DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", "NAME": "tasks", {where}}}}}
INSTALLED_APPS = ["django.contrib.contenttypes", "eventstore.contrib.django", "tasks"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
EVENTSTORE_NOTIFY = True
"""
MODELS = """
from django.db import models

class Opened(models.Model):
    stream = models.CharField(max_length=100)
"""
SUBSCRIPTIONS = """
from eventstore.contrib.django import projection
from tasks.models import Opened

@projection("opened")
def opened(event, transaction):
    Opened.objects.create(stream=event.stream_id)
"""
TESTS = """
import pytest

from eventstore import Event, InvalidArgument
from eventstore.contrib.django import event_store
from eventstore.contrib.django.test import run_subscriptions
from tasks.models import Opened

def the_store_is_empty_and_usable():
    assert list(event_store().read_all()) == []
    assert event_store().append("Task-1", [Event(event_type="TaskOpened")], 0) == 1
    run_subscriptions()
    assert Opened.objects.get().stream == "Task-1"

@pytest.mark.django_db
def test_marked():
    the_store_is_empty_and_usable()

def test_with_the_fixture(db):
    the_store_is_empty_and_usable()

def test_a_name_that_no_subscription_has(db):
    with pytest.raises(InvalidArgument, match="no subscription 'open': there are 'opened'"):
        run_subscriptions("open")

@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.django_db(transaction=True)
def test_marked_as_transactional(number):
    the_store_is_empty_and_usable()

@pytest.mark.parametrize("number", [1, 2])
def test_with_the_transactional_fixture(transactional_db, number):
    the_store_is_empty_and_usable()

@pytest.mark.django_db
def test_marked_once_more():
    the_store_is_empty_and_usable()

def test_without_a_database():
    with pytest.raises(RuntimeError, match="Database access not allowed"):
        event_store().append("Task-1", [Event(event_type="TaskOpened")], 0)
"""
PASSED = 9


@pytest.fixture
def project(dsn: str, tmp_path: Path) -> Iterator[Path]:
    server = conninfo_to_dict(dsn)
    where = ", ".join(
        f'"{name.upper()}": {str(server.get(name, ""))!r}' for name in ("user", "password", "host", "port")
    )
    app = tmp_path / "tasks"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "models.py").write_text(MODELS)
    (app / "subscriptions.py").write_text(SUBSCRIPTIONS)
    (tmp_path / "project_settings.py").write_text(SETTINGS.format(where=where))
    (tmp_path / "test_tasks.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nDJANGO_SETTINGS_MODULE = project_settings\npythonpath = .\n")
    yield tmp_path
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS test_tasks WITH (FORCE)")


def run(project: Path, *options: str) -> None:
    """Run the project's tests, all of which must pass."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "DJANGO"))}
    environment["PYTHONWARNINGS"] = "error"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    ended = subprocess.run(
        command, cwd=project, env=environment, check=False, capture_output=True, encoding="utf-8", timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(rf"\b{PASSED} passed", ended.stdout), ended.stdout


def test_each_test_finds_an_empty_store_with_migrations_and_the_database_goes_at_the_end(
    project: Path, dsn: str
) -> None:
    run(project)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT FROM pg_database WHERE datname = 'test_tasks'").fetchall() == []


def test_each_test_finds_an_empty_store_in_a_database_that_is_used_again(project: Path) -> None:
    run(project, "--reuse-db")
    run(project, "--reuse-db")


def test_without_migrations_the_schema_is_made_all_the_same(project: Path) -> None:
    run(project, "--nomigrations")
