"""Appending to streams, and reading them and the log: sql/0001 to 0003."""

from __future__ import annotations

from eventstore.codec.record import Row
from eventstore.core.requests import Append, Conflict, ReadLog, ReadStream, SafePosition, Stored
from eventstore.postgres.arrays import BYTEA, INT4, TEXT, TIMESTAMPTZ, UUID_, array
from eventstore.postgres.statements.statement import Parameters, Rows, names, optional_value, statement

_EVENTS = """
    SELECT stream_id, version, position, uuid_send(event_id), event_type, data, metadata,
        timestamptz_send(timestamp), utc_offset
    FROM {schema}.events
    """
"""The columns are those of a Row."""
_STREAM = f"{_EVENTS} WHERE stream_id = %(stream_id)b AND version > %(from_version)b AND version <= %(to_version)b"


def _rows(rows: Rows) -> list[Row]:
    return list(rows) if not isinstance(rows, list) else rows


def _appended(rows: Rows) -> Stored | Conflict:
    """What the functions return: the last version; at a conflict -1 minus the stream's, NULL where it is unknown."""
    ((version,),) = rows
    if version is None:
        return Conflict(None)
    return Stored(version, position=0) if version >= 0 else Conflict(-1 - version)


def _append(request: Append) -> Parameters:
    event_ids, event_types, data, metadata, timestamps, utc_offsets = request.records
    return (
        request.stream_id,
        request.expected_version,
        array(UUID_, event_ids),
        array(TEXT, [event_type.encode() for event_type in event_types]),
        array(BYTEA, data),
        array(BYTEA, metadata),
        array(TIMESTAMPTZ, timestamps),
        array(INT4, [offset.to_bytes(4, signed=True) for offset in utc_offsets]),
    )


def _filtered(request: ReadLog) -> Parameters:
    types, categories = names(request.event_types), names(request.categories)
    number, of = request.partition or (None, None)
    return request.after, request.upto, types, types, categories, categories, of, of, number, request.limit


STATEMENTS = (
    statement(
        Append,
        "SELECT {schema}.append(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b)",
        parameters=_append,
        reply=_appended,
        conflict=Conflict(None),
    ),
    statement(
        ReadStream,
        f"{_STREAM} ORDER BY version DESC LIMIT %(limit)b",
        when=lambda request: request.backwards,
        reply=_rows,
    ),
    statement(ReadStream, f"{_STREAM} ORDER BY version LIMIT %(limit)b", reply=_rows),
    statement(SafePosition, "SELECT {schema}.safe_position(%(after)b::bigint)", reply=optional_value(int)),
    statement(
        ReadLog,
        f"""
        {_EVENTS}
        WHERE position > %b AND position <= %b
            AND (%b::text[] IS NULL OR event_type = ANY (%b::text[]))
            AND (%b::text[] IS NULL OR strpos(stream_id, '-') > 0 AND split_part(stream_id, '-', 1) = ANY (%b::text[]))
            AND (%b::integer IS NULL OR {{schema}}.partition_of(stream_id, %b::integer) = %b::integer)
        ORDER BY position LIMIT %b
        """,
        when=lambda request: request.filtered,
        parameters=_filtered,
        reply=_rows,
    ),
    # The upper bound stands outside: between two bounds a planner without statistics expects few rows, and sorts them.
    statement(
        ReadLog,
        f"""
        SELECT * FROM (
            {_EVENTS} WHERE position > %(after)b ORDER BY position LIMIT %(limit)b
        ) AS page
        WHERE position <= %(upto)b ORDER BY position
        """,
        reply=_rows,
    ),
)

IN_TRANSACTION = (
    statement(
        Append,
        "SELECT {schema}.append_in_transaction(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b)",
        parameters=_append,
        reply=_appended,
        conflict=Conflict(None),
    ),
)
"""What takes the place of the above in a transaction that goes on."""

CHANNEL = "SELECT 'eventstore_' || tableoid FROM {schema}.event_positions"
NOTIFY = "SELECT pg_notify('eventstore_' || tableoid, '') FROM {schema}.event_positions"
"""The name of the channel that announces appends, and an announcement."""
