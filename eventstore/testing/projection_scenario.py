"""Tests of projections in three words: given a log, when more events are appended, then the read model says this.

::

    totals = Projection(store, "totals", add_up, tables=["totals"])
    given_log(totals, {"Order-7": [created]}).when({"Order-7": [shipped]}).then(
        lambda transaction: transaction.connection.execute("SELECT orders, shipped FROM totals").fetchall(), [(1, 1)]
    )
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

from eventstore.event import Event
from eventstore.subscriptions.blocking import Projection
from eventstore.subscriptions.inline import inline
from eventstore.versions import ExpectedVersion

T = TypeVar("T")

Streams: TypeAlias = Mapping[str, Sequence[Event]]
"""Events to append, by the id of the stream they belong to."""


def given_log(projection: Projection[T], streams: Streams | None = None) -> GivenLog[T]:
    """Begin a test of a projection: append events to its store and pass them to its handler.

    Each event is handled in the transaction that appends it, so there is nothing to wait for, and no checkpoint moves.
    The filter of the projection applies. It raises what the handler raises.
    """
    given = GivenLog(projection)
    given.project(streams or {})
    return given


class GivenLog(Generic[T]):
    """A projection that has handled the events of a log. ``given_log`` returns it."""

    def __init__(self, projection: Projection[T]) -> None:
        self._projection = projection

    def project(self, streams: Streams) -> None:
        """Append events and pass them to the handler, in one transaction."""
        with inline(self._projection._store, self._projection).transaction() as transaction:
            for stream_id, events in streams.items():
                transaction.append(stream_id, events, ExpectedVersion.ANY)

    def when(self, streams: Streams) -> WhenProjected[T]:
        """Append more events and pass them to the handler. ``then`` checks the outcome."""
        try:
            self.project(streams)
        except Exception as error:  # noqa: BLE001 it may be what is expected; then() says so if it is not
            return WhenProjected(self._projection, error)
        return WhenProjected(self._projection, None)

    def then(self, look: Callable[[T], object], expected: object) -> None:
        """Check the read model after the given log, as ``when({}).then(look, expected)`` does."""
        WhenProjected(self._projection, None).then(look, expected)


class WhenProjected(Generic[T]):
    """The outcome of more events. ``GivenLog.when`` returns it."""

    def __init__(self, projection: Projection[T], error: Exception | None) -> None:
        self._projection = projection
        self._error = error

    def then(self, look: Callable[[T], object], expected: object) -> None:
        """Check that ``look``, called with a transaction of the store, returns ``expected``.

        Raises:
            AssertionError: it does not, or the handler has raised. The message shows both values, or the cause is what
                the handler raised.
        """
        if self._error is not None:
            raise AssertionError(f"expected {expected!r}, but it raised {self._error!r}") from self._error
        with self._projection.store.transaction() as transaction:
            found = look(transaction)
        if found != expected:
            raise AssertionError(f"expected {expected!r}, found {found!r}")

    def then_raised(self, expected: type[Exception]) -> None:
        """Check that the handler raised an error of this class, so that nothing of the events is stored.

        Raises:
            AssertionError: it raised nothing, or another error.
        """
        if self._error is None:
            raise AssertionError(f"expected {expected.__name__}, but nothing was raised")
        if not isinstance(self._error, expected):
            raise AssertionError(f"expected {expected.__name__}, but it raised {self._error!r}") from self._error  # noqa: TRY004
