"""Subjects of personal data in the log: sql/0009."""

from __future__ import annotations

from eventstore.core.requests import DeleteSnapshotsOf, SubjectStreams
from eventstore.postgres.statements.statement import Rows, nothing, statement

_STREAMS = "SELECT stream_id FROM {schema}.subject_streams WHERE subject = %(subject)b"


def _texts(rows: Rows) -> list[str]:
    return [text for (text,) in rows]


STATEMENTS = (
    statement(SubjectStreams, f"{_STREAMS} ORDER BY stream_id", reply=_texts),
    statement(
        DeleteSnapshotsOf,
        f"""
        DELETE FROM {{schema}}.snapshots USING ({_STREAMS}) AS seen
        WHERE aggregate_type = pg_catalog.split_part(stream_id, '-'::text, 1)
            AND aggregate_id = pg_catalog.substr(stream_id, pg_catalog.length(aggregate_type) + 2)
        """,
        reply=nothing,
    ),
)
