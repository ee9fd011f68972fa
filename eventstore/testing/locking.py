"""A check for test suites: that stored events survive what has changed in the program."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from eventstore.eventlock import DEFAULT_PATH, compared, read_lock


def assert_events_are_readable(path: str | Path = DEFAULT_PATH, modules: Iterable[str] = ()) -> None:
    """Fail if stored events would not survive what has changed since the lock file was written.

    As ``eventstore events check``, for a test of the application's::

        def test_stored_events_can_be_read():
            assert_events_are_readable()

    Args:
        path: the lock file.
        modules: those that define the events; the lock file's, unless given.

    Raises:
        AssertionError: with each change and what to do about it.
        EventsLockError: the lock file is missing, damaged, or of a newer release.
    """
    problems = [str(finding) for finding in compared(read_lock(Path(path)), modules) if finding.is_problem]
    assert not problems, "\n".join(problems)
