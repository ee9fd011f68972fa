"""The lock file: what a program's events are stored as, in a text that is compared with the program before a deploy."""

from __future__ import annotations

from eventstore.eventlock.comparing import Finding, compared
from eventstore.eventlock.describing import described_program
from eventstore.eventlock.text import Lock, LockedType, read_lock, text_of

DEFAULT_PATH = "events.lock"

__all__ = [
    "DEFAULT_PATH",
    "Finding",
    "Lock",
    "LockedType",
    "compared",
    "described_program",
    "read_lock",
    "text_of",
]
