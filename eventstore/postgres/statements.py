"""Every statement that the stores send: calls of the schema's functions, which sql/ explains, and reads of its tables.

Values come and go in binary; ids and timestamps as raw bytes, which are decoded only where they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, LiteralString, TypeAlias, cast

from psycopg import sql

from eventstore.errors import InvalidArgument
from eventstore.names import check_name
from eventstore.operations import (
    Append,
    DeleteSnapshot,
    LoadSnapshot,
    ReadLog,
    ReadStream,
    Request,
    SafePosition,
    SaveSnapshot,
    SnapshotRequest,
)
from eventstore.postgres.arrays import BYTEA, INT4, TEXT, TIMESTAMPTZ, UUID_, Array
from eventstore.records import NewRecord
from eventstore.store import Snapshot

MAX_SCHEMA_BYTES = 63
"""The longest identifier that PostgreSQL keeps whole."""

_STATEMENTS = {
    "append": "SELECT {schema}.append(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b)",
    "append_in_transaction": "SELECT {schema}.append_in_transaction(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b)",
    "read": """
        SELECT stream_id, version, position, uuid_send(event_id), event_type, data, metadata,
            timestamptz_send(timestamp), utc_offset
        FROM {schema}.events
        WHERE stream_id = %b AND version > %b AND version <= %b
        ORDER BY version LIMIT %b
        """,
    "read_backwards": """
        SELECT stream_id, version, position, uuid_send(event_id), event_type, data, metadata,
            timestamptz_send(timestamp), utc_offset
        FROM {schema}.events
        WHERE stream_id = %b AND version > %b AND version <= %b
        ORDER BY version DESC LIMIT %b
        """,
    "safe_position": "SELECT {schema}.safe_position(%b::bigint)",
    "read_all": """
        SELECT stream_id, version, position, uuid_send(event_id), event_type, data, metadata,
            timestamptz_send(timestamp), utc_offset
        FROM {schema}.events
        WHERE position > %b AND position <= %b
            AND (%b::text[] IS NULL OR event_type = ANY (%b::text[])) AND starts_with(stream_id, %b)
        ORDER BY position LIMIT %b
        """,
    "load_snapshot": """
        SELECT aggregate_type, aggregate_id, version, class_schema, state, checksum
        FROM {schema}.snapshots WHERE aggregate_type = %b AND aggregate_id = %b
        """,
    "save_snapshot": """
        INSERT INTO {schema}.snapshots (aggregate_type, aggregate_id, version, class_schema, state, checksum)
        VALUES (%b, %b, %b, %b, %b, %b)
        ON CONFLICT (aggregate_type, aggregate_id) DO UPDATE SET version = excluded.version,
            class_schema = excluded.class_schema, state = excluded.state, checksum = excluded.checksum, taken_at = now()
        """,
    "delete_snapshot": "DELETE FROM {schema}.snapshots WHERE aggregate_type = %b AND aggregate_id = %b",
}


def check_schema(schema: object) -> str:
    """Return ``schema`` if PostgreSQL can have a schema of that name, and sql/ can be written for it."""
    name = check_name("schema", schema)
    size = len(name.encode())
    if size > MAX_SCHEMA_BYTES:
        raise InvalidArgument(f"schema {name!r} has {size} bytes; PostgreSQL keeps {MAX_SCHEMA_BYTES} of a name")
    if name.startswith("pg_"):
        raise InvalidArgument(f"schema {name!r}: names that begin with 'pg_' are PostgreSQL's own")
    if "$eventstore$" in name:
        raise InvalidArgument(f"schema {name!r} must not contain '$eventstore$', which ends a function's body")
    return name


def for_schema(text: str, schema: str) -> str:
    """SQL text of the package with {schema} put in as an identifier."""
    return sql.SQL(cast("LiteralString", text)).format(schema=sql.Identifier(schema)).as_string(None)


@dataclass(frozen=True, slots=True)
class Command:
    """A statement as it is, for transactions. Reply: its first value, or without rows its status, such as ROLLBACK."""

    text: str


AnyRequest: TypeAlias = Request | SnapshotRequest | Command


class Statements:
    """The statements for the store in one schema."""

    def __init__(self, schema: str) -> None:
        self.schema = check_schema(schema)
        # A percent sign in a name would be read as the beginning of a parameter.
        doubled = schema.replace("%", "%%")
        self._texts = {name: for_schema(text, doubled).encode() for name, text in _STATEMENTS.items()}

    def of(self, request: AnyRequest, *, in_transaction: bool) -> tuple[bytes, Sequence[Any]]:  # noqa: PLR0911 one each
        """The statement for a request, with its parameters."""
        match request:
            case Append(stream_id, expected_version, records):
                name = "append_in_transaction" if in_transaction else "append"
                return self._texts[name], (stream_id, expected_version, *_columns(records))
            case ReadStream(stream_id, from_version, to_version, backwards, limit):
                text = self._texts["read_backwards" if backwards else "read"]
                return text, (stream_id, from_version, to_version, limit)
            case SafePosition(after):
                return self._texts["safe_position"], (after,)
            case ReadLog(after, upto, limit, event_types, category):
                prefix = "" if category is None else f"{category}-"
                types = None if event_types is None else Array(TEXT, [name.encode() for name in event_types])
                return self._texts["read_all"], (after, upto, types, types, prefix, limit)

            case LoadSnapshot(aggregate_type, aggregate_id):
                return self._texts["load_snapshot"], (aggregate_type, aggregate_id)
            case SaveSnapshot(snapshot):
                return self._texts["save_snapshot"], tuple(getattr(snapshot, field.name) for field in fields(Snapshot))
            case DeleteSnapshot(aggregate_type, aggregate_id):
                return self._texts["delete_snapshot"], (aggregate_type, aggregate_id)
            case Command(text):
                return text.encode(), ()


def reply_of(request: AnyRequest, rows: list[Any], status: str | None) -> Any:
    """What a request's rows say, or a command's status."""
    match request:
        case Append() | SafePosition():
            return rows[0][0]
        case ReadStream() | ReadLog():
            return rows
        case LoadSnapshot():
            return Snapshot(*rows[0]) if rows else None
        case SaveSnapshot() | DeleteSnapshot():
            return None
        case Command():
            return rows[0][0] if rows else status


def _columns(records: Sequence[NewRecord]) -> list[Array]:
    return [
        Array(UUID_, [record.event_id for record in records]),
        Array(TEXT, [record.event_type.encode() for record in records]),
        Array(BYTEA, [record.data for record in records]),
        Array(BYTEA, [record.metadata for record in records]),
        Array(TIMESTAMPTZ, [record.timestamp for record in records]),
        Array(INT4, [record.utc_offset.to_bytes(4, signed=True) for record in records]),
    ]
