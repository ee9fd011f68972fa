"""What the documentation says is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

import eventstore
from eventstore import Event, EventStoreError, PostgresEventStore
from eventstore import event_types as events_module
from eventstore.core.subscription_requests import (
    Claim,
    DropParked,
    Heartbeat,
    ListParked,
    ListSubscriptions,
    NoteError,
    Park,
    PollSubscription,
    Register,
    Remove,
    SaveCheckpoint,
)

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_first_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_event_classes", {})
    exec(compile(blocks(ROOT / "README.md", "python")[0], "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_it_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_guide_lists_every_error() -> None:
    text = (ROOT / "docs" / "guide.md").read_text()
    errors = [n for n in eventstore.__all__ if isinstance(getattr(eventstore, n), type)]
    errors = [n for n in errors if issubclass(getattr(eventstore, n), EventStoreError)]
    assert [name for name in errors if f"`{name}`" not in text] == []


def test_the_privileges_of_an_application_suffice_and_keep_history(
    connection: psycopg.Connection, schema: str, pool: ConnectionPool
) -> None:
    grants = blocks(ROOT / "docs" / "postgresql.md", "sql")[0]
    connection.execute("CREATE ROLE app")
    connection.execute(sql.SQL(re.sub(r"\beventstore\b", "{schema}", grants)).format(schema=sql.Identifier(schema)))  # type: ignore[arg-type]
    connection.execute("SET ROLE app")
    store = PostgresEventStore(pool, schema).bind(connection)
    assert store.append("s", [Event(event_type="T")], 0) == 1
    assert len(store.read("s")) == len(list(store.read_all())) == 1
    position = store.read("s")[0].position
    for request in (
        Register("x", 2, 0),
        PollSubscription("x"),
        Claim("x", 9),
        Heartbeat("x", present=True),
        NoteError("x", 1, position, "error", failed=False),
        Park("x", position, 1, "error"),
        SaveCheckpoint("x", 0, position),
        ListParked("x"),
        ListSubscriptions("x"),
        DropParked("x", position),
        Remove("x"),
    ):
        assert store.execute(request) not in (False, [])
    for statement in ("UPDATE {}.events SET event_type = 'x'", "DELETE FROM {}.events", "TRUNCATE {}.events"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(sql.SQL(statement).format(sql.Identifier(schema)))
    connection.rollback()
