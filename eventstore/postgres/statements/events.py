"""Appending to streams, and reading them and the log: sql/0001 to 0003."""

from __future__ import annotations

from eventstore.codec.format import key_of_map
from eventstore.codec.record import Row
from eventstore.core.requests import (
    AlreadyStored,
    Append,
    AppendMany,
    AppendMark,
    AppendReply,
    ConfirmCommits,
    Conflict,
    MarkLog,
    ReadByIds,
    ReadFromSnapshot,
    ReadLog,
    ReadPageAndFind,
    ReadRelated,
    ReadStream,
    Retired,
    SafePosition,
    SessionsGone,
    Stored,
    SubjectGone,
)
from eventstore.postgres.arrays import BYTEA, INT2, INT4, INT8, TEXT, TIMESTAMPTZ, UUID_, array
from eventstore.postgres.statements.statement import Parameters, Rows, names, nothing, optional_value, statement

_EVENTS = """
    SELECT stream_id, version, position, pg_catalog.uuid_send(event_id), event_type, data, metadata,
        pg_catalog.timestamptz_send(timestamp), utc_offset, revision
    FROM {schema}.events
    """
"""The columns are those of a Row."""
_REPLAYED = """
    ((SELECT NOT pg_catalog.pg_is_in_recovery())
        OR {schema}.is_replayed(%(upto)b::bigint, (SELECT position FROM {schema}.log_mark)))
    """
"""Raises where the server is a standby that does not have the log so far. Both subqueries are run once at most."""
INDEXED_BYTES = 40
"""How much of an id is in the indexes for traces."""
_STREAM = f"{_EVENTS} WHERE stream_id = %(stream_id)b AND version > %(from_version)b AND version <= %(to_version)b"

_CLOSING = """
    coalesce((
        SELECT version FROM {schema}.events WHERE stream_id || ''::text = %(stream_id)b AND closing
        ORDER BY version DESC LIMIT 1
    ), 0)
    """
"""Where loads of a stream begin."""

_ELSEWHERE = _EVENTS.replace(" position,", " 0::bigint AS position,")
_START = f"coalesce((SELECT version FROM snapshot), greatest({_CLOSING}, 1::bigint))"
"""Where a load begins. To read it from the table expression `start` would take a tenth more time for a short load."""
_FROM_SNAPSHOT = f"""
    WITH snapshot AS (
        SELECT version, event_id, state, checksum FROM {{schema}}.snapshots
        WHERE aggregate_type = %(aggregate_type)b AND aggregate_id = %(aggregate_id)b
            AND class_schema = %(class_schema)b AND version >= {_CLOSING}
    ), start AS (
        SELECT {_START} AS version
    )
    SELECT ''::text AS stream_id, 0::bigint AS version, version AS position, pg_catalog.uuid_send(event_id),
        ''::text, state, checksum, ''::bytea, 0, 0::smallint
    FROM snapshot
    UNION ALL (
        {_EVENTS} WHERE stream_id = %(stream_id)b AND version >= {_START}
        ORDER BY version LIMIT %(limit)b
    )
    """
"""The columns are those of a Row. The snapshot comes with the version 0, so that it is the first."""

_FILTERED_LOG = f"""
    {_EVENTS}
    WHERE position > %b AND position <= %b
        AND (%b::text[] IS NULL OR event_type = ANY (%b::text[]))
        AND (%b::text[] IS NULL OR pg_catalog.strpos(stream_id, '-'::text) > 0
            AND pg_catalog.split_part(stream_id, '-'::text, 1) = ANY (%b::text[]))
        AND (%b::integer IS NULL OR {{schema}}.partition_of(stream_id, %b::integer) = %b::integer)
        AND {_REPLAYED.replace("%(upto)b", "%b")}
    """


def _rows(rows: Rows) -> list[Row]:
    return list(rows) if not isinstance(rows, list) else rows


def _appended(rows: Rows) -> AppendReply:
    """What the functions return: the composite append_reply, in PostgreSQL's binary format (record_send).

    That is the number of fields, and for each its type, its length (-1: NULL) and its bytes.
    """
    packed: bytes = rows[0][0]
    fields: list[bytes | None] = []
    offset = 4
    for _ in range(3):
        start = offset + 8
        length = int.from_bytes(packed[offset + 4 : start], signed=True)
        offset = start + max(length, 0)
        fields.append(packed[start:offset] if length >= 0 else None)
    version, position = (None if field is None else int.from_bytes(field, signed=True) for field in fields[:2])
    return _reply(version, position, str(fields[2] or b"", "ascii"))


def _each_appended(rows: Rows) -> list[AppendReply | None]:
    return [None if outcome is None else _reply(version, position, outcome) for version, position, outcome in rows]


def _reply(version: int | None, position: int | None, outcome: str) -> AppendReply:
    if outcome in {"stored", "repeated"}:
        return Stored(version or 0, position or 0, outcome == "repeated")
    if outcome == "already stored":
        return AlreadyStored(version or 0, position or 0)
    if outcome == "retired":
        return Retired(version or 0, position or 0)
    if outcome == "forgotten":
        return SubjectGone(version or 0)
    return Conflict(version)


def _append(request: Append) -> Parameters:
    return request.stream_id, request.expected_version, *_columns(request)


def _append_many(request: AppendMany) -> Parameters:
    return (
        names(request.stream_ids),
        array(INT8, [version.to_bytes(8, signed=True) for version in request.expected_versions]),
        array(INT4, [(index + 1).to_bytes(4) for index in request.streams]),
        array(INT4, [step.to_bytes(4) for step in request.steps]),
        *_columns(request),
    )


def _columns(request: Append | AppendMany) -> Parameters:
    event_ids, event_types, data, metadata, timestamps, utc_offsets, revisions = request.records
    return (
        array(UUID_, event_ids),
        array(TEXT, [event_type.encode() for event_type in event_types]),
        array(BYTEA, data),
        array(BYTEA, metadata),
        array(TIMESTAMPTZ, timestamps),
        array(INT4, [offset.to_bytes(4, signed=True) for offset in utc_offsets]),
        array(INT2, [revision.to_bytes(2) for revision in revisions]),
        array(UUID_, request.given_ids) if request.given_ids else None,
    )


def _append_personal(request: Append) -> Parameters:
    return *_append(request), array(TEXT, [subject.encode() for subject in request.subjects])


def _append_mark(request: AppendMark) -> Parameters:
    append = request.append
    return *(_append_personal(append) if append.subjects else _append(append)), not request.tombstone, request.tombstone


def _filtered(request: ReadLog) -> Parameters:
    types, categories = names(request.event_types), names(request.categories)
    number, of = request.partition or (None, None)
    filters = types, types, categories, categories, of, of, number
    return request.after, request.upto, *filters, request.upto, request.limit


def _related(key: str) -> str:
    """The events whose metadata has a value in one of several ranges after a key: the expression is the index's."""
    packed = key_of_map(key)
    place = f"position(E'\\\\x{packed.hex()}'::bytea IN metadata)"
    value = f"substring(metadata FROM {place} + {len(packed)} FOR {INDEXED_BYTES})"
    return f"""
        SELECT found.* FROM unnest(%b::bytea[], %b::bytea[]) AS wanted (least, below) CROSS JOIN LATERAL (
            {_EVENTS} WHERE {place} > 0 AND {value} >= least AND {value} < below ORDER BY {value} LIMIT %b
        ) AS found
        ORDER BY position
        """


def _ranges(request: ReadRelated) -> Parameters:
    least = [each[:INDEXED_BYTES] for each in request.ids]
    return array(BYTEA, least), array(BYTEA, [each + b"\xff" * INDEXED_BYTES for each in least]), request.limit


def _sessions(request: SessionsGone) -> Parameters:
    return request.own, array(INT4, [session.to_bytes(4) for session in request.sessions])


STATEMENTS = (
    statement(
        Append,
        "SELECT {schema}.append_personal(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b, %b, %b, %b)",
        when=lambda request: bool(request.subjects),
        parameters=_append_personal,
        reply=_appended,
        conflict=Conflict(None),
    ),
    statement(
        Append,
        "SELECT {schema}.append(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b, %b, %b)",
        parameters=_append,
        reply=_appended,
        conflict=Conflict(None),
    ),
    statement(
        AppendMark,
        "SELECT {schema}.append_personal(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)",
        when=lambda request: bool(request.append.subjects),
        parameters=_append_mark,
        reply=_appended,
        conflict=Conflict(None),
    ),
    statement(
        AppendMark,
        "SELECT {schema}.append(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)",
        parameters=_append_mark,
        reply=_appended,
        conflict=Conflict(None),
    ),
    statement(
        AppendMany,
        "SELECT version, position, outcome FROM {schema}.append_many(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)",
        parameters=_append_many,
        reply=_each_appended,
    ),
    # PgBouncer makes up the numbers that its clients know.
    statement(
        SessionsGone,
        """
        SELECT CASE WHEN pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) %b::integer THEN
            NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) ANY (%b::integer[]))
        END
        """,
        parameters=_sessions,
        reply=optional_value(bool),
    ),
    statement(
        ConfirmCommits,
        "SELECT pg_catalog.pg_logical_emit_message(true, 'eventstore'::text, ''::text)",
        reply=nothing,
    ),
    statement(
        ReadStream,
        f"{_STREAM} ORDER BY version DESC LIMIT %(limit)b",
        when=lambda request: request.backwards,
        reply=_rows,
    ),
    statement(
        ReadStream,
        f"{_STREAM} AND version >= {_CLOSING} ORDER BY version LIMIT %(limit)b",
        when=lambda request: request.from_closing,
        reply=_rows,
    ),
    statement(ReadStream, f"{_STREAM} ORDER BY version LIMIT %(limit)b", reply=_rows),
    statement(
        ReadPageAndFind,
        f"""
        WITH start AS (SELECT greatest({_CLOSING} - 1, %(from_version)b) AS version)
        SELECT * FROM (
            (
                {_EVENTS} WHERE stream_id = %(stream_id)b AND version > (SELECT version FROM start)
                ORDER BY version LIMIT %(limit)b
            )
            UNION ALL
            {_ELSEWHERE} WHERE event_id = %(event_id)b::uuid AND stream_id || ''::text = %(stream_id)b
                AND NOT (
                    version > (SELECT version FROM start) AND version <= (SELECT version FROM start) + %(limit)b
                )
        ) AS page
        ORDER BY version
        """,
        reply=_rows,
    ),
    statement(MarkLog, "SELECT {schema}.mark_log()", reply=optional_value(int)),
    statement(
        ReadFromSnapshot,
        f"{_FROM_SNAPSHOT} ORDER BY version",
        when=lambda request: request.event_id is None,
        reply=_rows,
    ),
    statement(
        ReadFromSnapshot,
        f"""
        {_FROM_SNAPSHOT}
        UNION ALL
        {_ELSEWHERE} WHERE event_id = %(event_id)b::uuid AND stream_id || ''::text = %(stream_id)b
            AND NOT (version >= (SELECT version FROM start) AND version < (SELECT version FROM start) + %(limit)b)
        ORDER BY version
        """,
        reply=_rows,
    ),
    statement(SafePosition, "SELECT {schema}.safe_position(%(after)b::bigint)", reply=optional_value(int)),
    statement(
        ReadByIds,
        f"{_EVENTS} WHERE event_id = ANY (%b::uuid[]) ORDER BY position",
        parameters=lambda request: (array(UUID_, request.event_ids),),
        reply=_rows,
    ),
    statement(
        ReadRelated,
        _related("correlation_id"),
        when=lambda request: request.key == "correlation_id",
        parameters=_ranges,
        reply=_rows,
    ),
    statement(ReadRelated, _related("causation_id"), parameters=_ranges, reply=_rows),
    statement(
        ReadLog,
        f"{_FILTERED_LOG} ORDER BY position DESC LIMIT %b",
        when=lambda request: request.filtered and request.backwards,
        parameters=_filtered,
        reply=_rows,
    ),
    statement(
        ReadLog,
        f"{_FILTERED_LOG} ORDER BY position LIMIT %b",
        when=lambda request: request.filtered,
        parameters=_filtered,
        reply=_rows,
    ),
    # One bound stands outside: between two bounds a planner without statistics expects few rows, and sorts them.
    statement(
        ReadLog,
        f"""
        SELECT * FROM (
            {_EVENTS} WHERE position <= %(upto)b ORDER BY position DESC LIMIT %(limit)b
        ) AS page
        WHERE position > %(after)b AND {_REPLAYED} ORDER BY position DESC
        """,
        when=lambda request: request.backwards,
        reply=_rows,
    ),
    statement(
        ReadLog,
        f"""
        SELECT * FROM (
            {_EVENTS} WHERE position > %(after)b ORDER BY position LIMIT %(limit)b
        ) AS page
        WHERE position <= %(upto)b AND {_REPLAYED} ORDER BY position
        """,
        reply=_rows,
    ),
)

IN_TRANSACTION = (
    statement(
        Append,
        "SELECT {schema}.append_personal_in_transaction(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b, %b, %b, %b)",
        when=lambda request: bool(request.subjects),
        parameters=_append_personal,
        reply=_appended,
        conflict=Conflict(None),
    ),
    statement(
        Append,
        "SELECT {schema}.append_in_transaction(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b, %b, %b)",
        parameters=_append,
        reply=_appended,
        conflict=Conflict(None),
    ),
    statement(
        AppendMark,
        f"SELECT {{schema}}.append_personal_in_transaction(%b::text, %b::bigint, {', '.join(['%b'] * 11)})",
        when=lambda request: bool(request.append.subjects),
        parameters=_append_mark,
        reply=_appended,
        conflict=Conflict(None),
    ),
    statement(
        AppendMark,
        "SELECT {schema}.append_in_transaction(%b::text, %b::bigint, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)",
        parameters=_append_mark,
        reply=_appended,
        conflict=Conflict(None),
    ),
)
"""What replaces the above in a transaction that continues."""

CHANNEL = "SELECT pg_catalog.concat('eventstore_'::text, {event_positions}::pg_catalog.regclass::pg_catalog.oid::text)"
NOTIFY = f"SELECT pg_catalog.pg_notify(({CHANNEL}), ''::text)"
"""The name of the channel that announces appends, and an announcement."""
