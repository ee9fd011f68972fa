"""``eventstore streams``: which streams there are, page by page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import tuple_row
from psycopg.sql import SQL

from eventstore.cli.telling import complain
from eventstore.codec.showing import cleaned, cleaned_json
from eventstore.postgres import PostgresEventStore
from eventstore.postgres.failures import translated
from eventstore.postgres.statements.schema import in_parameterized

_PAGE = 1000
_STREAMS = SQL("""
    WITH RECURSIVE found (id) AS (
        (
            SELECT stream_id FROM {schema}.events
            WHERE stream_id >= %(prefix)s::text AND stream_id > %(after)s::text ORDER BY stream_id LIMIT 1
        )
        UNION ALL
        SELECT (SELECT stream_id FROM {schema}.events WHERE stream_id > id ORDER BY stream_id LIMIT 1)
        FROM found WHERE pg_catalog.starts_with(id, %(prefix)s::text)
    )
    SELECT id, last.version, pg_catalog.to_char(last.timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    FROM (SELECT id FROM found WHERE pg_catalog.starts_with(id, %(prefix)s::text) LIMIT %(limit)s::bigint) AS page
    CROSS JOIN LATERAL (
        SELECT version, timestamp FROM {schema}.events WHERE stream_id = id ORDER BY version DESC LIMIT 1
    ) AS last
    ORDER BY id
""")
"""Two looks into the primary key's index for each stream, however many events there are."""


class _Stream(NamedTuple):
    stream_id: str
    version: int
    last_event: str


def run(dsn: str, schema: str, prefix: str, *, after: str, limit: int | None, as_json: bool) -> int:
    """Print the streams whose ids begin with a prefix; exit code 1 where there is none."""
    shown = 0
    with PostgresEventStore.connect(dsn, schema, max_size=1, prepare=False) as store:
        for shown, stream in enumerate(_streams(store, schema, prefix, after, limit), 1):  # noqa: B007 counted
            if as_json:
                print(cleaned_json(json.dumps(stream._asdict(), ensure_ascii=False)))
            else:
                print(f"{stream.version:>8}  {stream.last_event}  {cleaned(stream.stream_id)}")
    if shown or limit == 0:
        return 0
    complain(f"there is no stream {f'that begins with {prefix!r} ' if prefix else ''}in schema {schema!r}")
    return 1


def _streams(store: PostgresEventStore, schema: str, prefix: str, after: str, limit: int | None) -> Iterator[_Stream]:
    while limit is None or limit > 0:
        size = _PAGE if limit is None else min(_PAGE, limit)
        page = page_of_streams(store, schema, {"prefix": prefix, "after": after, "limit": size})
        yield from page
        if len(page) < size:
            return
        after = page[-1].stream_id
        limit = limit and limit - size


def page_of_streams(store: PostgresEventStore, schema: str, wanted: dict[str, object]) -> list[_Stream]:
    return [_Stream(*row) for row in rows_of(store, schema, _STREAMS, wanted)]


def rows_of(store: PostgresEventStore, schema: str, statement: SQL, wanted: dict[str, object]) -> list[tuple[Any, ...]]:
    """What a statement that only reads returns."""
    with store.transaction() as transaction:
        connection = transaction.connection
        try:
            with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
                cursor.execute(statement.format(schema=in_parameterized(schema)), wanted)
                return cursor.fetchall()
        except psycopg.Error as error:
            raise translated(error, broken=connection.broken, schema=schema) from error
