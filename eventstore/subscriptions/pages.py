"""Pages of the log that a worker of several partitions reads once for all of them. No I/O."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from eventstore.codec.record import POSITION, STREAM_ID, Row
from eventstore.core.checkpoints import partition_of
from eventstore.subscriptions.outages import OLD_SECONDS

MOST_ROWS = 10_000
"""Of one page, unless a batch may have more."""


class Page:
    """All rows that a filter lets through above one position, up to and with another, by partitions."""

    def __init__(
        self, after: int, end: int, wanted: Sequence[str] | None, rows: Sequence[Row], partitions: int
    ) -> None:
        self._after = after
        self._end = end
        self._wanted = wanted
        self._partitions = partitions
        self._read_at = time.monotonic()
        self._parts: dict[int, list[Row]] = {}
        for row in rows:
            self._parts.setdefault(partition_of(row[STREAM_ID], partitions), []).append(row)

    def holds(self, position: int, wanted: Sequence[str] | None, partitions: int) -> bool:
        """Whether it has what stands next after a position, as the filter is now."""
        same = (wanted, partitions) == (self._wanted, self._partitions)
        return same and self._after <= position < self._end and time.monotonic() <= self._read_at + OLD_SECONDS

    def part(self, number: int, after: int, limit: int) -> tuple[Sequence[Row], int]:
        """At most so many rows of a partition above a position, and the position up to which these are all."""
        rows = [row for row in self._parts.get(number, ()) if row[POSITION] > after]
        return (rows[:limit], rows[limit - 1][POSITION]) if len(rows) > limit else (rows, self._end)


class Pages:
    """The page that a worker has read last."""

    def __init__(self) -> None:
        self.last: Page | None = None
        self._claimed: deque[int] = deque()

    def rows_to_read(self, partition: int, partitions: int, batch_size: int) -> int:
        """How many rows the next page should have, now that this partition was claimed; 0 if a page is of no use.

        As many batches as this worker has claimed partitions lately. Where others have all partitions but one, a page
        would serve that one only.
        """
        if not self._claimed:
            self._claimed.extend(range(partitions))
        self._claimed.append(partition)
        while len(self._claimed) > partitions:
            self._claimed.popleft()
        several = len(set(self._claimed))
        return 0 if several == 1 else max(batch_size, min(batch_size * several, MOST_ROWS))
