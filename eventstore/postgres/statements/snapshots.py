"""Snapshots of aggregates: sql/0005."""

from __future__ import annotations

from operator import attrgetter

from eventstore.core.requests import DeleteSnapshot, LoadSnapshot, SaveSnapshot
from eventstore.postgres.statements.statement import Parameters, nothing, optional, statement
from eventstore.store import Snapshot

_COLUMNS = ("aggregate_type", "aggregate_id", "class_schema", "version", "event_id", "state", "checksum")
_ONE = "WHERE aggregate_type = %(aggregate_type)b AND aggregate_id = %(aggregate_id)b"

_values_of = attrgetter(*_COLUMNS)


def _saved(request: SaveSnapshot) -> Parameters:
    aggregate_type, aggregate_id, class_schema, *_ = values = _values_of(request.snapshot)
    return (*values, aggregate_type, aggregate_id, aggregate_type, aggregate_id, class_schema)


_SAVE = f"""
    WITH saved AS (
        INSERT INTO {{{{schema}}}}.snapshots ({", ".join(_COLUMNS)})
        SELECT %b::text, %b::text, %b::text, %b::bigint, %b::uuid, %b::bytea, %b::bytea {{}}
        ON CONFLICT (aggregate_type, aggregate_id, class_schema) DO UPDATE SET version = excluded.version,
            event_id = excluded.event_id, state = excluded.state, checksum = excluded.checksum,
            taken_at = excluded.taken_at
    )
    DELETE FROM {{{{schema}}}}.snapshots
    WHERE aggregate_type = %b AND aggregate_id = %b AND class_schema IN (
        SELECT class_schema FROM {{{{schema}}}}.snapshots
        WHERE aggregate_type = %b AND aggregate_id = %b AND class_schema <> %b
        ORDER BY taken_at DESC OFFSET 1
    )
    """

STATEMENTS = (
    statement(
        LoadSnapshot,
        f"SELECT {', '.join(_COLUMNS)} FROM {{schema}}.snapshots {_ONE} AND class_schema = %(class_schema)b",
        reply=optional(Snapshot),
    ),
    # Nobody waits until the disk has this commit: a snapshot that a crash of the server takes is only missing.
    statement(
        SaveSnapshot,
        _SAVE.format("FROM pg_catalog.set_config('synchronous_commit'::text, 'off'::text, true)"),
        parameters=_saved,
        reply=nothing,
    ),
    statement(DeleteSnapshot, f"DELETE FROM {{schema}}.snapshots {_ONE}", reply=nothing),
)

IN_TRANSACTION = (statement(SaveSnapshot, _SAVE.format(""), parameters=_saved, reply=nothing),)
"""What replaces the above in a transaction that continues, whose commit is for somebody else to wait for."""
