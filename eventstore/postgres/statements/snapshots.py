"""Snapshots of aggregates: sql/0005."""

from __future__ import annotations

from operator import attrgetter

from eventstore.core.requests import DeleteSnapshot, LoadSnapshot, SaveSnapshot
from eventstore.postgres.statements.statement import nothing, optional, statement
from eventstore.store import Snapshot

_COLUMNS = ("aggregate_type", "aggregate_id", "version", "class_schema", "state", "checksum")
_ONE = "WHERE aggregate_type = %(aggregate_type)b AND aggregate_id = %(aggregate_id)b"

STATEMENTS = (
    statement(
        LoadSnapshot,
        f"SELECT {', '.join(_COLUMNS)} FROM {{schema}}.snapshots {_ONE}",
        reply=optional(Snapshot),
    ),
    statement(
        SaveSnapshot,
        f"""
        INSERT INTO {{schema}}.snapshots ({", ".join(_COLUMNS)}) VALUES (%b, %b, %b, %b, %b, %b)
        ON CONFLICT (aggregate_type, aggregate_id) DO UPDATE SET version = excluded.version,
            class_schema = excluded.class_schema, state = excluded.state, checksum = excluded.checksum, taken_at = now()
        """,
        parameters=attrgetter(*(f"snapshot.{column}" for column in _COLUMNS)),
        reply=nothing,
    ),
    statement(DeleteSnapshot, f"DELETE FROM {{schema}}.snapshots {_ONE}", reply=nothing),
)
