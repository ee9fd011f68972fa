"""The options of subscriptions and projections: once for type checkers and editors, once with defaults and checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, cast, get_args

from eventstore.core.checkpoints import MAX_PARTITIONS
from eventstore.core.operations import check_categories, check_event_types, check_number
from eventstore.errors import InvalidArgument
from eventstore.names import check_names
from eventstore.store import Categories, EventTypes

F = TypeVar("F", bound=Callable[..., None])

OnFailure: TypeAlias = Literal["stop", "park", "park-stream"]


class Options(TypedDict, total=False):
    """The keyword arguments that every subscription and projection takes."""

    event_types: EventTypes | None
    """Handle only events of these types, given as names or classes; None: of all."""
    categories: Categories | None
    """Handle only events of streams whose id begins with one of these and "-"; None: of all."""
    from_position: int
    """A subscription of a new name begins above this position."""
    partitions: int
    """The number of parts that the streams are split into, each handled by one worker at a time."""
    batch_size: int
    """Read at most this many events at a time."""
    attempts: int
    """Try an event this many times in all."""
    on_failure: OnFailure
    """Stop at an event that has failed as often, park it, or park the later events of its stream as well."""
    poll_interval: float
    """Seconds that may pass before an event is noticed that nothing announced."""


class Settings:
    """Options, checked, with their defaults. Raises InvalidArgument."""

    def __init__(
        self,
        *,
        event_types: EventTypes | None = None,
        categories: Categories | None = None,
        from_position: int = 0,
        partitions: int = 1,
        batch_size: int = 1000,
        attempts: int = 5,
        on_failure: OnFailure = "stop",
        poll_interval: float = 0.5,
    ) -> None:
        self.batch_size = check_number("batch_size", batch_size, least=1)
        if isinstance(event_types, Iterable) and not isinstance(event_types, (str, type)):
            event_types = list(event_types)
        self.event_types: Sequence[str] | None = None if event_types is None else check_event_types(event_types)
        given = event_types if isinstance(event_types, list) else [event_types]
        self.has_classes = any(isinstance(each, type) for each in given)
        """Whether the filter names classes, so that a type without one is waited for."""
        self.categories: Sequence[str] | None = None if categories is None else check_categories(categories)
        self.from_position = check_number("from_position", from_position)
        self.partitions = check_number("partitions", partitions, least=1)
        if partitions > MAX_PARTITIONS:
            raise InvalidArgument(f"partitions must be at most {MAX_PARTITIONS}, not {partitions}")
        self.attempts = check_number("attempts", attempts, least=1)
        if on_failure not in get_args(OnFailure):
            raise InvalidArgument(f"on_failure must be 'stop', 'park' or 'park-stream', not {on_failure!r}")
        self.parks = on_failure != "stop"
        self.parks_streams = on_failure == "park-stream"
        if not isinstance(poll_interval, (int, float)) or not poll_interval > 0:  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"poll_interval must be a number of seconds above 0, not {poll_interval!r}")
        self.poll_interval = poll_interval


def check_tables(tables: object) -> tuple[str, ...]:
    """Return the names of tables; raise InvalidArgument for anything else, such as a class of Django's models."""
    if isinstance(tables, str) or not isinstance(tables, Iterable):
        raise InvalidArgument(f"tables must be a list of names, not {type(tables).__name__}")
    given = list(cast("Iterable[object]", tables))
    for table in given:
        if not isinstance(table, str):
            raise InvalidArgument(
                f"tables must be a list of names, such as 'totals', not {table!r}: of a Django model that is "
                "Model._meta.db_table"
            )
    return tuple(check_names("tables", given))


def spelled_out(method: F) -> F:
    """Let ``help()`` and shells show the options of a method one by one, with their defaults."""
    signature = inspect.signature(method)
    kept = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    options: list[Any] = list(inspect.signature(Settings).parameters.values())
    method.__dict__["__signature__"] = signature.replace(parameters=[*kept, *options])
    return method
