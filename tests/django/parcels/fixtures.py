"""Fixtures: a database of the project's own on the session's server, to which several aliases lead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connections
from django.test import override_settings
from psycopg.conninfo import conninfo_to_dict

from eventstore.contrib.django import conf

ALIASES = ["default", "pooled", "server_side"]


@pytest.fixture(scope="session")
def django_database(dsn: str) -> Iterator[None]:
    """The test database, made by Django's own migrations."""
    server = conninfo_to_dict(dsn)
    where = {name.upper(): str(server.get(name, "")) for name in ("user", "password", "host", "port")}
    for alias in (*ALIASES, "repeatable"):
        connections.settings[alias].update(where, NAME=server["dbname"])
        # Django connects as it says here, to make the database.
    connections["default"].creation.create_test_db(verbosity=0, autoclobber=True)
    for alias in (*ALIASES, "repeatable"):
        connections[alias].settings_dict["NAME"] = connections["default"].settings_dict["NAME"]
    yield
    connections.close_all()
    connections["pooled"].close_pool()
    connections["default"].creation.destroy_test_db(str(server["dbname"]), verbosity=0)
    connections.close_all()


@pytest.fixture(params=ALIASES)
def using(django_database: None, request: pytest.FixtureRequest) -> str:  # noqa: ARG001 it is there then
    """Each way in which Django may use psycopg."""
    return str(request.param)


@pytest.fixture
def other(django_database: None) -> Iterator[psycopg.Connection[Any]]:  # noqa: ARG001
    """A connection that is not Django's."""
    with psycopg.connect(conf.conninfo("default")) as connection:
        yield connection


@pytest.fixture
def settings_of() -> Any:
    """Settings, as long as a block lasts."""
    return override_settings
