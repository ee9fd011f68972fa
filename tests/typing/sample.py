"""What users write, for the type checkers: they read this, nothing runs it."""

from __future__ import annotations

from typing import assert_type

from eventstore.errors import ConcurrencyError, EventStoreError


def handle(error: ConcurrencyError) -> EventStoreError:
    assert_type(error.stream_id, str)
    assert_type(error.actual_version, int | None)
    return error
