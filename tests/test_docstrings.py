"""The examples in docstrings: each runs, and the names that everybody uses have one."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import psycopg
import pytest

import eventstore
from eventstore import context, health, postgres, privacy, subscriptions, testing, tracing
from eventstore import event_types as events_module
from eventstore.codec import registry

README = Path(__file__).parents[1] / "README.md"
USED_BY_EVERYBODY = {
    "Event",
    "Aggregate",
    "handles",
    "Repository",
    "EventStore.append",
    "EventStore.read",
    "EventStore.read_all",
    "PostgresEventStore",
    "Projection",
    "Subscription",
    "given",
    "register_type",
    "migrate",
}
PUBLIC: dict[str, Any] = {
    name: getattr(module, name)
    for module in (eventstore, context, health, postgres, privacy, subscriptions, testing, tracing)
    for name in module.__all__
}


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name, value in PUBLIC.items() for test in finder.find(value, name, module=False)]
    return [test for test in found if test.examples and "._" not in test.name]


@pytest.fixture
def names(dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the examples can use: every public name, the classes of the README, a database."""
    monkeypatch.setattr(events_module, "_event_classes", {})
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    found = {**PUBLIC, "Annotated": Annotated, "Any": Any, "Enum": Enum, "UUID": UUID, "uuid4": uuid4}
    found |= {"dsn": dsn, "schema": schema, "keys_schema": "eventstore_keys", "__name__": "__main__"}
    code = README.read_text().partition("```python\n")[2].partition("\nstore = ")[0]
    exec(compile(code, "README.md", "exec", dont_inherit=True), found)  # noqa: S102 it is our own
    yield found
    with psycopg.connect(dsn, options="-c client_min_messages=warning") as connection:
        connection.execute("DROP SCHEMA IF EXISTS another_schema CASCADE")


@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_the_example_in_a_docstring_prints_what_it_shows(example: doctest.DocTest, names: dict[str, Any]) -> None:
    example.globs = names
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=report.append)
    assert result.failed == 0, "".join(report)


def test_the_names_that_everybody_uses_have_an_example() -> None:
    assert USED_BY_EVERYBODY - {test.name for test in examples()} == set()
