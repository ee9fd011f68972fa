"""Every statement that the stores send: calls of the schema's functions, which sql/ explains, and reads of its tables.

One row a request, by subject as in sql/.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar, cast

from eventstore.core.requests import Request
from eventstore.postgres.statements import (
    events,
    health,
    rebuild,
    sessions,
    snapshots,
    subject_keys,
    subjects,
    subscriptions,
)
from eventstore.postgres.statements.schema import MAX_SCHEMA_BYTES, check_not_reserved, check_schema, for_schema
from eventstore.postgres.statements.statement import Statement, optional_value, statement

__all__ = ["MAX_SCHEMA_BYTES", "RawSql", "Statement", "Statements", "check_not_reserved", "check_schema", "for_schema"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RawSql(Request[str | None]):
    """A statement as it is, for transactions. Reply: its first value, or without rows its status, such as ROLLBACK."""

    text: str


_STATEMENTS: tuple[Statement[Any], ...] = (
    *events.STATEMENTS,
    *snapshots.STATEMENTS,
    *subscriptions.STATEMENTS,
    *rebuild.STATEMENTS,
    *sessions.STATEMENTS,
    *subjects.STATEMENTS,
    *subject_keys.STATEMENTS,
    *health.STATEMENTS,
)


_RAW_SQL = statement(RawSql, "", parameters=lambda _: (), reply=optional_value(str))


class Statements:
    """The statements for the store in one schema."""

    def __init__(self, schema: str) -> None:
        self.schema = check_schema(schema)
        self.migrate_with: str | None = None
        """The command that brings the schema up to date, where a framework has one of its own."""
        doubled = schema.replace("%", "%%")
        self.channel = for_schema(events.CHANNEL, doubled).encode()
        self.notification = for_schema(events.NOTIFY, doubled).encode()
        self._statements = _by_kind(_STATEMENTS, schema)

    @cached_property
    def in_transaction(self) -> Statements:
        """The statements for a connection whose transaction continues."""
        twin = Statements(self.schema)
        twin.migrate_with = self.migrate_with
        twin._statements |= _by_kind((*events.IN_TRANSACTION, *snapshots.IN_TRANSACTION), self.schema)
        twin.in_transaction = twin
        return twin

    def of(self, request: Request[R]) -> Statement[R]:
        """The statement for a request."""
        if isinstance(request, RawSql):
            return cast("Statement[R]", replace(_RAW_SQL, text=request.text.encode()))
        for each in self._statements[type(request)]:
            if each.when is None or each.when(request):
                return each
        raise AssertionError(f"no statement is for {request!r}")


def _by_kind(statements: Iterable[Statement[Any]], schema: str) -> dict[type[Request[Any]], list[Statement[Any]]]:
    found: dict[type[Request[Any]], list[Statement[Any]]] = {}
    for each in statements:
        found.setdefault(each.kind, []).append(each.for_schema(schema))
    return found
