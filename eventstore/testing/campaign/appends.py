"""An append, or several in one transaction, with its lines in a history."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eventstore import AppendOutcomeUnknown, ConcurrencyError, Event, EventStore, StoreUnavailable
from eventstore.testing.campaign.history import History

MARK = "campaign-noted"
"""The type of all events: the proxy knows an append by it."""
AHEAD = "ahead-"
"""How the streams begin that one writer alone appends to, now and then where they are not yet."""


@dataclass(frozen=True, slots=True)
class Part:
    """One append. As part of a call that is retried, it has the same events, and so the same ids."""

    stream_id: str
    events: Sequence[Event]
    expected_version: int


def new_events(count: int) -> list[Event]:
    """Events that differ by their ids."""
    return [Event(event_type=MARK) for _ in range(count)]


class Interrupted(Exception):
    """What a signal raises, wherever the program is: the outcome of a call is unknown then."""


class RolledBack(Exception):
    """What leaves a transaction's block so that nothing of it is stored."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``what`` is "ok", "failed", "unknown" or "surprise", as in the history."""

    what: str
    versions: Sequence[int] = ()
    error: Exception | None = None


class Recorder:
    """Makes calls, and writes down that they are made before, and what came of them after."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._numbers = itertools.count(1)

    def call(self, parts: Sequence[Part], carry_out: Callable[[], Sequence[int]]) -> Outcome:
        """Have the parts carried out. Raises nothing: no error but these three may come of an append."""
        number = next(self._numbers)
        called = [
            (part.stream_id, int(part.expected_version), [event.event_id.hex for event in part.events])
            for part in parts
        ]
        self._history.write("invoked", call=number, parts=called)
        try:
            versions = carry_out()
        except (AppendOutcomeUnknown, Interrupted) as error:
            outcome = Outcome("unknown", error=error)
        except (ConcurrencyError, StoreUnavailable, RolledBack) as error:
            outcome = Outcome("failed", error=error)
        except Exception as error:  # noqa: BLE001 the checker counts it
            outcome = Outcome("surprise", error=error)
        else:
            self._history.write("ok", call=number, versions=versions)
            return Outcome("ok", versions)
        facts: dict[str, Any] = {"error": type(outcome.error).__name__, "text": str(outcome.error)}
        if isinstance(outcome.error, ConcurrencyError):
            facts |= {"stream": outcome.error.stream_id, "actual": outcome.error.actual_version}
        self._history.write(outcome.what, call=number, **facts)
        return outcome


def carry_out(store: EventStore, parts: Sequence[Part]) -> list[int]:
    """One part by itself, several in a transaction; the versions that they led to."""
    if len(parts) == 1:
        return [store.append(parts[0].stream_id, parts[0].events, parts[0].expected_version)]
    with store.transaction() as transaction:
        return [transaction.append(part.stream_id, part.events, part.expected_version) for part in parts]
