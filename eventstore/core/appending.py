"""What becomes of an append, for stores that decide it in Python; in SQL it is write_events of sql/0002_append.sql."""

from __future__ import annotations

from collections.abc import Iterable

from eventstore.core.requests import AlreadyStored, Append, Conflict, Stored
from eventstore.versions import ExpectedVersion


def answered_without_storing(
    append: Append, last_version: int, known: Iterable[tuple[int, int, bytes]]
) -> Stored | Conflict | AlreadyStored | None:
    """Return the reply to an append that must not store anything, or None if its events are to be stored now.

    Args:
        append: what is asked for.
        last_version: the stream's, 0 if it does not exist.
        known: version, position and event id of each event of the stream that has one of the append's event ids. They
            may be left out where the expected version is the stream's and ``append.given_ids`` is empty.
    """
    ids, expected = append.records.event_ids, append.expected_version
    known = sorted(known)
    first = expected + 1 if expected >= 0 else next((version for version, _, _ in known), None)
    if ids and first is not None:
        there = {version: (position, event_id) for version, position, event_id in known}
        if [there.get(version, (0, b""))[1] for version in range(first, first + len(ids))] == ids:
            last = first + len(ids) - 1
            return Stored(last, there[last][0], repeated=True)
    looked_up = append.given_ids if expected >= 0 else ids
    for version, position, event_id in known:
        if event_id in looked_up:
            return AlreadyStored(version, position)
    if 0 <= expected != last_version or (expected == ExpectedVersion.STREAM_EXISTS and not last_version):
        return Conflict(last_version)
    return None
