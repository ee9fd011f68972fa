"""Tests of aggregates in three words: given what happened, when something is asked for, then this happens.

::

    given(Order, created).when(lambda order: order.ship("1Z")).then(OrderShipped(tracking_number="1Z"))
    given(Order, created, shipped).when(lambda order: order.ship("2Z")).then(InvalidOperation)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from eventstore.aggregate import Aggregate
from eventstore.event import Event

A = TypeVar("A", bound=Aggregate[Any])


def given(aggregate_type: type[A], *events: Event, id: UUID | str | None = None) -> Given[A]:  # noqa: A002 it is one
    """Begin a test of an aggregate that has these events.

    >>> created = OrderCreated(customer_id=uuid4(), items=[])
    >>> order = given(Order, created).when(lambda order: order.ship("1Z")).then(OrderShipped(tracking_number="1Z"))
    >>> order.status
    'shipped'
    """
    return Given(aggregate_type.from_events(uuid4() if id is None else id, events))


class Given(Generic[A]):
    """An aggregate in the state that a test begins with. ``given`` returns it."""

    def __init__(self, aggregate: A) -> None:
        self.aggregate = aggregate

    def when(self, action: Callable[[A], object]) -> When[A]:
        """Call ``action`` with the aggregate, and keep what it records or raises for ``then``."""
        try:
            action(self.aggregate)
        except Exception as error:  # noqa: BLE001 it may be what is expected; then() says so if it is not
            return When(self.aggregate, error)
        return When(self.aggregate, None)


class When(Generic[A]):
    """The outcome of an action. ``Given.when`` returns it."""

    def __init__(self, aggregate: A, error: Exception | None) -> None:
        self.aggregate = aggregate
        self._error = error

    def then(self, *expected: Event | type[Exception] | Exception) -> A:
        """Check that exactly these events were recorded, or that this error was raised and nothing was recorded.

        Events are compared by class, type and data, not by id, timestamp or metadata. Give an error as a class, or as
        an instance with the message that you expect.

        Returns:
            The aggregate, for more assertions on its state.

        Raises:
            AssertionError: something else happened. The message shows what differs, field by field.
        """
        if len(expected) == 1 and not isinstance(expected[0], Event):
            self._check_error(expected[0])
            self._check_events(())
        else:
            if self._error is not None:
                raise AssertionError(f"expected events, but it raised {self._error!r}") from self._error
            self._check_events(expected)
        return self.aggregate

    def _check_error(self, expected: type[Exception] | Exception) -> None:
        if self._error is None:
            raise AssertionError(f"expected {expected!r}, but nothing was raised; recorded: {self._recorded()}")
        cls = expected if isinstance(expected, type) else type(expected)
        if not isinstance(self._error, cls):
            raise AssertionError(f"expected {expected!r}, but it raised {self._error!r}") from self._error  # noqa: TRY004
        if not isinstance(expected, type) and str(self._error) != str(expected):
            raise AssertionError(f"expected the text {str(expected)!r}, found {str(self._error)!r}") from self._error

    def _check_events(self, expected: tuple[Any, ...]) -> None:
        recorded = self.aggregate.pending
        differences = [
            f"event {number}: {difference}"
            for number, (wanted, found) in enumerate(zip(expected, recorded, strict=False), 1)
            for difference in differences_between(wanted, found)
        ]
        if len(expected) != len(recorded):
            differences.insert(0, f"expected {len(expected)} event(s), but {len(recorded)} were recorded")
        if differences:
            raise AssertionError("\n  ".join([*differences, f"recorded: {self._recorded()}"]))

    def _recorded(self) -> str:
        return ", ".join(map(repr, self.aggregate.pending)) or "nothing"


def differences_between(expected: Event, found: Event) -> list[str]:
    """Describe what differs between two events, field by field."""
    if type(expected) is not type(found) or expected.event_type != found.event_type:
        return [f"expected {_kind(expected)}, found {_kind(found)}"]
    missing = object()
    return [
        f"{name}: expected {_shown(expected.data.get(name, missing), missing)}, "
        f"found {_shown(found.data.get(name, missing), missing)}"
        for name in {**expected.data, **found.data}
        if expected.data.get(name, missing) != found.data.get(name, missing)
    ]


def _kind(event: Event) -> str:
    return f"{type(event).__name__} ({event.event_type})"


def _shown(value: object, missing: object) -> str:
    return "no such field" if value is missing else repr(value)
