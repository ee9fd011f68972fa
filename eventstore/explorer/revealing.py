"""Personal values opened for whom they may be shown to. Nothing is written, and no key is made or destroyed."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.codec.record import DATA, METADATA, Row
from eventstore.codec.sealing import Keys, subjects_in
from eventstore.core.personal_data import opened_data, opened_metadata
from eventstore.core.subject_keys import SubjectKeys, ciphers
from eventstore.postgres.stores import PostgresEventStore


def opened_rows(store: PostgresEventStore, keys: SubjectKeys, rows: Sequence[Row]) -> list[Row]:
    """Rows in which personal values are as they were before they were sealed, where their subjects have a key.

    Raises what the key store does.
    """
    subjects: set[str] = set()
    for row in rows:
        subjects |= subjects_in(row[DATA]) | subjects_in(row[METADATA])
    if not subjects:
        return list(rows)
    found = store.carry_out(ciphers(keys, sorted(subjects), create=False))
    return [_opened(row, found) for row in rows]


def _opened(row: Row, keys: Keys) -> Row:
    try:
        data, metadata = opened_data(row, keys).packed, opened_metadata(row, keys).packed
    except ValueError:  # Damaged, or of another key store: it stays as it is.
        return row
    stream_id, version, position, event_id, event_type, _, _, timestamp, utc_offset, revision = row
    return stream_id, version, position, event_id, event_type, data, metadata, timestamp, utc_offset, revision
