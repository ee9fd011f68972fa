"""docs/tutorial.md: whoever follows it, step by step, sees what it shows."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from readers import Reader, blocks_of

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
NOT_RUN = ("mkdir shop", "eventstore server")
"""The installation, and the server in another terminal: the tests have both already."""


@pytest.fixture
def reader(dsn: str, tmp_path: Path) -> Reader:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE test_tutorial"))
    own = make_conninfo(**{**conninfo_to_dict(dsn), "dbname": "test_tutorial"})
    return Reader(tmp_path, EVENTSTORE_DSN=own, EVENTSTORE_TEST_DSN=own)


def test_every_step_of_the_tutorial_runs_and_prints_what_it_shows(reader: Reader) -> None:
    printed = ""
    ran: list[str] = []
    for language, text in blocks_of(PAGE):
        if language == "python":
            reader.writes(text)
        elif language == "text":
            assert printed == text
        elif not text.startswith(NOT_RUN):
            printed = reader.runs(text)
            ran.append(text)
    assert len(ran) == 9
