"""What a store tells somebody who watches it: one observer, which its transactions and repositories inherit."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from eventstore.event import Event


@dataclass(slots=True)
class Appending:
    """An append, while it is made."""

    stored: bool = False
    """Whether it stored its events, now and not before."""
    lost_answers: int = 0
    """How often the answer was lost, so that it was sent again."""


@dataclass(slots=True)
class Loading:
    """A load, while it is made."""

    events: int = 0
    """How many events were replayed."""
    from_snapshot: bool = False
    """Whether it began at a snapshot, or at a cached aggregate."""


class Observer(Protocol):
    """Somebody who watches. The blocks last as long as what they are about, and see its errors."""

    def appending(self, stream_id: str | None) -> AbstractContextManager[Appending]:
        """Without a stream: to several."""
        ...

    def appended(self, event_types: list[str]) -> None: ...
    def loading(self, category: str) -> AbstractContextManager[Loading]: ...
    def handling(self, subscription: str, events: Sequence[Event]) -> AbstractContextManager[object]:
        """Several events if the handler takes batches."""
        ...

    def rebuilding(self, subscription: str) -> AbstractContextManager[object]: ...
    def parked(self, subscription: str) -> None: ...
    def retried(self) -> None:
        """Somebody else was faster, and an update loads and decides again."""
        ...


_appending: ContextVar[Appending | None] = ContextVar("eventstore_appending", default=None)
_headers: ContextVar[Mapping[str, Any] | None] = ContextVar("eventstore_headers", default=None)


@contextmanager
def appending(headers: Mapping[str, Any]) -> Generator[Appending, None, None]:
    """A block in which one append is made, whose events get headers, such as a ``traceparent``, into their metadata."""
    found = Appending()
    tokens = _appending.set(found), _headers.set(headers)
    try:
        yield found
    finally:
        _appending.reset(tokens[0])
        _headers.reset(tokens[1])


def note_lost_answer() -> None:
    """Tell whoever watches the append that its answer was lost."""
    found = _appending.get()
    if found is not None:
        found.lost_answers += 1


def current_headers() -> Mapping[str, Any] | None:
    """What every event of the append at work gets into its metadata, unless it has that; None for nothing."""
    return _headers.get()
