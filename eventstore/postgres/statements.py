"""Every statement that the stores send: calls of the schema's functions, which sql/ explains, and reads of its tables.

Values come and go in binary; ids and timestamps as raw bytes, which are decoded only where they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, LiteralString, TypeAlias, cast

from psycopg import sql

from eventstore.core.checkpoints import (
    AbandonRebuild,
    BeginRebuild,
    Claim,
    Claimed,
    DropParked,
    EnterRebuild,
    Facts,
    FinishRebuild,
    Heartbeat,
    ListParked,
    ListSubscriptions,
    LockSubscription,
    Look,
    NoteError,
    Outlook,
    Park,
    ParkedEvent,
    Probe,
    Register,
    Remove,
    SaveCheckpoint,
    WrittenRows,
)
from eventstore.core.operations import (
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
from eventstore.core.records import NewRecords
from eventstore.errors import InvalidArgument
from eventstore.names import check_name
from eventstore.postgres.arrays import BYTEA, INT4, TEXT, TIMESTAMPTZ, UUID_, Array, array
from eventstore.store import Snapshot

MAX_SCHEMA_BYTES = 63
"""The longest identifier that PostgreSQL keeps whole."""


@dataclass(frozen=True, slots=True)
class Command:
    """A statement as it is, for transactions. Reply: its first value, or without rows its status, such as ROLLBACK."""

    text: str


AnyRequest: TypeAlias = Request | SnapshotRequest | Command


_STATEMENTS = {
    "append": "SELECT {schema}.append(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b, %b)",
    "append_in_transaction": "SELECT {schema}.append_in_transaction(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b, %b)",
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
    # The upper bound stands outside: between two bounds a planner without statistics expects few rows, and sorts them.
    "read_all": """
        SELECT * FROM (
            SELECT stream_id, version, position, uuid_send(event_id), event_type, data, metadata,
                timestamptz_send(timestamp), utc_offset
            FROM {schema}.events WHERE position > %b ORDER BY position LIMIT %b
        ) AS page
        WHERE position <= %b ORDER BY position
        """,
    "read_filtered": """
        SELECT stream_id, version, position, uuid_send(event_id), event_type, data, metadata,
            timestamptz_send(timestamp), utc_offset
        FROM {schema}.events
        WHERE position > %b AND position <= %b
            AND (%b::text[] IS NULL OR event_type = ANY (%b::text[]))
            AND (%b::text[] IS NULL OR strpos(stream_id, '-') > 0 AND split_part(stream_id, '-', 1) = ANY (%b::text[]))
            AND (%b::integer IS NULL OR {schema}.partition_of(stream_id, %b::integer) = %b::integer)
        ORDER BY position LIMIT %b
        """,
    "channel": "SELECT 'eventstore_' || tableoid FROM {schema}.event_positions",
    "notify": "SELECT pg_notify('eventstore_' || tableoid, '') FROM {schema}.event_positions",
    "load_snapshot": """
        SELECT aggregate_type, aggregate_id, class_schema, version, event_id, state, checksum
        FROM {schema}.snapshots WHERE aggregate_type = %b AND aggregate_id = %b AND class_schema = %b
        """,
    "save_snapshot": """
        WITH saved AS (
            INSERT INTO {schema}.snapshots
                (aggregate_type, aggregate_id, class_schema, version, event_id, state, checksum)
            VALUES (%(aggregate_type)b, %(aggregate_id)b, %(class_schema)b, %(version)b, %(event_id)b, %(state)b,
                %(checksum)b)
            ON CONFLICT (aggregate_type, aggregate_id, class_schema) DO UPDATE SET version = excluded.version,
                event_id = excluded.event_id, state = excluded.state, checksum = excluded.checksum,
                taken_at = excluded.taken_at
        )
        DELETE FROM {schema}.snapshots
        WHERE aggregate_type = %(aggregate_type)b AND aggregate_id = %(aggregate_id)b AND class_schema IN (
            SELECT class_schema FROM {schema}.snapshots
            WHERE aggregate_type = %(aggregate_type)b AND aggregate_id = %(aggregate_id)b
                AND class_schema <> %(class_schema)b
            ORDER BY taken_at DESC OFFSET 1
        )
        """,
    "delete_snapshot": "DELETE FROM {schema}.snapshots WHERE aggregate_type = %b AND aggregate_id = %b",
}

_REQUESTS: dict[type[object], str] = {
    Register: "SELECT {schema}.register_subscription(%(name)b::text, %(partitions)b::integer, %(position)b::bigint)",
    Look: """
        SELECT lowest, safe, error, error_position FROM {schema}.poll_subscription(%(name)b::text)
        """,
    Heartbeat: """
        UPDATE {schema}.subscriptions SET seen_at = CASE WHEN %(present)b::boolean THEN now() END
        WHERE (name, partition) IN (
            SELECT name, partition FROM {schema}.subscriptions WHERE name = %(name)b AND partition >= 0
            FOR UPDATE SKIP LOCKED
        )
        """,
    Claim: """
        SELECT partition, partitions, position FROM {schema}.subscriptions
        WHERE name = %(name)b AND position < %(below)b::bigint AND NOT failed
            AND CASE WHEN %(partition)b::integer IS NULL THEN partition >= 0 ELSE partition = %(partition)b::integer END
        ORDER BY position, partition LIMIT 1 FOR UPDATE SKIP LOCKED
        """,
    SaveCheckpoint: """
        UPDATE {schema}.subscriptions SET position = %(position)b::bigint, moved_at = now(), seen_at = now(), error = NULL, error_position = NULL
        WHERE name = %(name)b AND partition = %(partition)b::integer
        """,
    NoteError: """
        UPDATE {schema}.subscriptions
        SET error = %(error)b, error_position = %(position)b::bigint, failed = %(failed)b::boolean
        WHERE name = %(name)b AND partition = %(partition)b::integer
        """,
    Park: """
        INSERT INTO {schema}.parked_events (name, position, attempts, error)
        VALUES (%(name)b, %(position)b, %(attempts)b, %(error)b)
        """,
    ListParked: """
        SELECT parked.position, stream_id, version, event_type, attempts, error, parked_at
        FROM {schema}.parked_events AS parked JOIN {schema}.events USING (position) WHERE name = %(name)b
        ORDER BY parked.position
        """,
    DropParked: """
        DELETE FROM {schema}.parked_events WHERE (name, position) IN (
            SELECT name, position FROM {schema}.parked_events WHERE name = %(name)b AND position = %(position)b::bigint
            FOR UPDATE SKIP LOCKED
        ) RETURNING position
        """,
    ListSubscriptions: """
        SELECT name, partitions, position, highest, seconds_behind, seconds_unseen, failed, error, error_position,
            parked, rebuilt_to
        FROM {schema}.subscription_status WHERE name = coalesce(%(name)b::text, name) ORDER BY name
        """,
    Remove: """
        WITH unparked AS (DELETE FROM {schema}.parked_events WHERE name = %(name)b)
        DELETE FROM {schema}.subscriptions WHERE name = %(name)b AND partition >= 0 RETURNING partition
        """,
    Probe: "SELECT 1",
    BeginRebuild: "SELECT {schema}.begin_rebuild(%(name)b::text, %(tables)b, %(position)b::bigint)",
    EnterRebuild: """
        SELECT set_config('search_path', concat_ws(', ', quote_ident({schema}.shadow_of(%(name)b::text)),
            nullif(current_setting('search_path'), '')), true)
        """,
    WrittenRows: "SELECT {schema}.written_rows(%(tables)b)",
    LockSubscription: """
        SELECT partition FROM {schema}.subscriptions WHERE name = %(name)b ORDER BY partition FOR UPDATE
        """,
    FinishRebuild: "SELECT {schema}.finish_rebuild(%(name)b::text, %(tables)b, %(position)b::bigint)",
    AbandonRebuild: "SELECT {schema}.abandon_rebuild(%(name)b::text)",
}
"""What following the log asks for; the parameters are the requests' fields."""


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
    """SQL text of the package: {schema} becomes an identifier, {event_positions} a text that names the sequence."""
    positions = sql.Identifier(schema, "event_positions").as_string(None)
    template = sql.SQL(cast("LiteralString", text))
    return template.format(schema=sql.Identifier(schema), event_positions=sql.Literal(positions)).as_string(None)


Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]


class Statements:
    """The statements for the store in one schema."""

    def __init__(self, schema: str) -> None:
        self.schema = check_schema(schema)
        # A percent sign in a name would be read as the beginning of a parameter.
        doubled = schema.replace("%", "%%")
        self._texts = {name: for_schema(text, doubled).encode() for name, text in _STATEMENTS.items()}
        self.channel, self.notification = self._texts["channel"], self._texts["notify"]
        self._requests = {kind: for_schema(text, doubled).encode() for kind, text in _REQUESTS.items()}

    def of(self, request: AnyRequest, *, in_transaction: bool) -> tuple[bytes, Parameters]:  # noqa: PLR0911 one each
        """The statement for a request, with its parameters."""
        match request:
            case Append(stream_id, expected_version, records):
                name = "append_in_transaction" if in_transaction else "append"
                return self._texts[name], (stream_id, expected_version, *_arrays(records))
            case ReadStream(stream_id, from_version, to_version, backwards, limit):
                text = self._texts["read_backwards" if backwards else "read"]
                return text, (stream_id, from_version, to_version, limit)
            case SafePosition(after):
                return self._texts["safe_position"], (after,)
            case ReadLog(after, upto, limit, event_types, categories, partition):
                if event_types is None and categories is None and partition is None:
                    return self._texts["read_all"], (after, limit, upto)
                types, prefixes = _names(event_types), _names(categories)
                number, of = (None, None) if partition is None else partition
                return self._texts["read_filtered"], (
                    after,
                    upto,
                    types,
                    types,
                    prefixes,
                    prefixes,
                    of,
                    of,
                    number,
                    limit,
                )
            case LoadSnapshot(aggregate_type, aggregate_id, class_schema):
                return self._texts["load_snapshot"], (aggregate_type, aggregate_id, class_schema)
            case SaveSnapshot(snapshot):
                return self._texts["save_snapshot"], _by_name(snapshot)
            case DeleteSnapshot(aggregate_type, aggregate_id):
                return self._texts["delete_snapshot"], (aggregate_type, aggregate_id)
            case Command(text):
                return text.encode(), ()
            case _:
                return self._requests[type(request)], _by_name(request)


def reply_of(request: AnyRequest, rows: list[Any], status: str | None) -> Any:  # noqa: C901, PLR0911 one case each
    """What a request's rows say, or a command's status."""
    match request:
        case Append():
            return _append_reply(rows[0][0])
        case SafePosition():
            return rows[0][0]
        case ReadStream() | ReadLog():
            return rows
        case LoadSnapshot():
            return Snapshot(*rows[0]) if rows else None
        case SaveSnapshot() | DeleteSnapshot():
            return None
        case Look():
            return Outlook(*rows[0])
        case Claim():
            return Claimed(*rows[0]) if rows else None
        case ListParked():
            return [ParkedEvent(*row) for row in rows]
        case ListSubscriptions():
            return [Facts(*row) for row in rows]
        case DropParked() | Remove():
            return bool(rows)
        case Register() | BeginRebuild() | WrittenRows():
            return rows[0][0]
        case Command():
            return rows[0][0] if rows else status
        case _:
            return None


def _append_reply(packed: bytes) -> int | None:
    """The composite append_reply in PostgreSQL's binary form: for each field its type, its length, its bytes."""
    values: list[bytes | None] = []
    offset = 4
    for _ in range(3):
        length = int.from_bytes(packed[offset + 4 : offset + 8], signed=True)
        offset += 8
        values.append(None if length < 0 else packed[offset : offset + length])
        offset += max(length, 0)
    version = None if values[0] is None else int.from_bytes(values[0], signed=True)
    if values[2] == b"stored":
        return version
    return None if version is None else -1 - version


def _names(names: Sequence[str] | None) -> Array | None:
    return None if names is None else array(TEXT, [name.encode() for name in names])


def _by_name(request: object) -> dict[str, Any]:
    values = {field.name: getattr(request, field.name) for field in fields(cast("Any", request))}
    return {name: _names(cast("Any", value)) if type(value) is tuple else value for name, value in values.items()}


def _arrays(records: NewRecords) -> Sequence[Array]:
    event_ids, event_types, data, metadata, timestamps, utc_offsets = records
    return (
        array(UUID_, event_ids),
        array(TEXT, [event_type.encode() for event_type in event_types]),
        array(BYTEA, data),
        array(BYTEA, metadata),
        array(TIMESTAMPTZ, timestamps),
        array(INT4, [offset.to_bytes(4, signed=True) for offset in utc_offsets]),
        None,
    )
