"""Aggregates: state that events made, and the decisions that record new ones. Pure: no store is known here."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from enum import Enum
from functools import cache, cached_property, partial
from hashlib import blake2b
from itertools import chain
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar, cast
from uuid import UUID

from eventstore.codec.annotations import is_class_variable, own_annotations
from eventstore.codec.personal import early_marks, marks_of
from eventstore.codec.registry import described_fields, learn, reachable
from eventstore.codec.showing import represented
from eventstore.codec.upcasting import revision_of
from eventstore.codec.values import copied
from eventstore.context import in_context
from eventstore.errors import InvalidArgument, UnknownEventType
from eventstore.event import Event, detached, mark_used, was_asked_for_its_place
from eventstore.event_types import ignore_types
from eventstore.names import check_category, check_name, check_names
from eventstore.versions import StreamVersion

A = TypeVar("A", bound="Aggregate[Any]")
S = TypeVar("S", bound="Aggregate[Any]")
E = TypeVar("E", bound=Event)

_INTERNAL = frozenset(
    {
        *("id", "_version", "_event_id", "_pending_events", "_unconfirmed", "_diverged", "_subjects", "_unopened"),
        "__orig_class__",
    }
)
_RESERVED = _INTERNAL | {"version", "pending"}


def handles(event_class: type[E]) -> Callable[[Callable[[S, E], None]], Callable[[S, E], None]]:
    """Declare a method as the handler of one class of events and of its subclasses.

    >>> class Parcel(Aggregate["Parcel"]):
    ...     shipped: bool = False
    ...
    ...     @handles(OrderShipped)
    ...     def _shipped(self, event: OrderShipped) -> None:
    ...         self.shipped = True

    Raises:
        InvalidArgument: ``event_class`` is not a class of events. That is also so if the parentheses are missing.
    """
    if not (isinstance(event_class, type) and issubclass(event_class, Event)):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        name = getattr(event_class, "__name__", repr(event_class))
        raise InvalidArgument(f"@handles needs a class of events, as in @handles(OrderShipped), not {name!r}")

    def declare(method: Callable[[S, E], None]) -> Callable[[S, E], None]:
        method.__dict__["_handles"] = event_class
        return method

    return declare


class Unconfirmed(NamedTuple):
    """An append whose transaction was not seen to commit."""

    after: int
    """The version that the stream had before it."""
    events: Sequence[Event]


class Aggregate(Generic[A]):
    """Something with an identity whose state follows from its events.

    Methods that decide check the rules and call ``_record``. Methods marked with ``@handles``, or an override of
    ``apply``, change the state as an event says, and do nothing else.

    >>> class Door(Aggregate["Door"]):
    ...     open: bool = False
    ...
    ...     def unlock(self) -> None:
    ...         if self.open:
    ...             raise InvalidOperation("the door is open already")
    ...         self._record(Event(event_type="DoorOpened"))
    ...
    ...     def apply(self, event: Event) -> None:
    ...         self.open = True
    >>> door = Door("front")
    >>> door.unlock()
    >>> door.open, door.version, len(door.pending)
    (True, 0, 1)

    Class-level values are defaults, and so are those of ``dataclasses.field(default_factory=...)``. Each instance has
    its own copy. A class must not be decorated with ``@dataclass``.

    The class has three settings. ``category`` names its streams, ``{category}-{id}``, and is the class's name by
    default. Raise ``snapshot_version`` when you change handlers so that earlier snapshots are wrong. ``ignored`` lists
    stored types of events that don't change the state; they need neither a handler nor a class.
    """

    category: ClassVar[str] = "Aggregate"
    snapshot_version: ClassVar[int] = 1
    ignored: ClassVar[Sequence[str]] = ()
    _defaults: ClassVar[dict[str, Callable[[], Any]]] = {}
    _handlers: ClassVar[dict[type[Event], str]] = {}

    id: UUID | str

    def __new__(cls, *_: Any, **__: Any) -> Self:
        if "__dataclass_fields__" in cls.__dict__:  # A decorator's work can't be seen earlier.
            raise InvalidArgument(
                f"{cls.__qualname__} is decorated with @dataclass, which replaces its constructor: remove that; "
                "field(default_factory=...) works without it"
            )
        return super().__new__(cls)

    def __init__(self, id: UUID | str) -> None:  # noqa: A002 it is called that everywhere
        if not isinstance(id, UUID):
            check_name(f"the id of {type(self).__name__}", id)
        self._begin(id)
        for name, make in self._defaults.items():
            self.__dict__[name] = make()

    def _begin(self, id: UUID | str) -> None:  # noqa: A002
        """Set what every aggregate has, as it is before any event."""
        self.id = id
        self._version = StreamVersion(0)
        self._event_id: UUID | None = None
        self._pending_events: list[Event] = []
        self._unconfirmed: list[Unconfirmed] = []
        self._diverged = False
        self._subjects: set[str] = set()
        """Whose personal data its events held."""
        self._unopened = False
        """Whether some of it could not be opened, so that there are placeholders in the state."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.category = check_category(cls.__dict__.get("category", cls.__name__))
        cls.ignored = tuple(check_names(f"{cls.__qualname__}.ignored", cls.ignored))
        ignore_types(cls.ignored)
        cls._defaults, cls._handlers = {}, {}
        for base in reversed(cls.__mro__):  # Not only aggregates: what a mixin declares counts as well.
            if base in Aggregate.__mro__:
                continue
            if base.__dict__.get("__slots__"):
                raise InvalidArgument(
                    f"{cls.__qualname__}: an aggregate can't have slots, as {base.__qualname__} has: snapshots "
                    "and copies would lack what they hold"
                )
            for name in (base.__dict__.keys() | own_annotations(base).keys() - {"id"}) & _RESERVED:
                raise InvalidArgument(
                    f"{cls.__qualname__}: nothing of it can be called {name!r}, every aggregate has that already"
                )
            for name in base.__dict__.keys() & cls._defaults.keys():
                del cls._defaults[name]  # A method or property that hides it; a default of its own is added again.
            cls._defaults |= _own_defaults(base)
            cls._handlers |= _own_handlers(base)
        early_marks(cls)

    def __repr__(self) -> str:
        """Where it stands, and its public state; long values are cut."""
        shown: dict[str, Any] = {"id": self.id, "version": self._version}
        if self._pending_events:
            shown["pending"] = len(self._pending_events)
        shown |= {name: value for name, value in self.__dict__.items() if name != "id" and not name.startswith("_")}
        marks = early_marks(type(self))
        personal = shown if marks is None else marks.personal  # A log or a traceback is no place for it.
        texts = (f"{n}={'<personal>' if n in personal else represented(value)}" for n, value in shown.items())
        return f"{type(self).__name__}({', '.join(texts)})"

    @property
    def version(self) -> StreamVersion:
        """The version of the stream up to which this instance is stored. Pending events don't count.

        ``version.position`` is the position of the event at that version.
        """
        return self._version

    @property
    def pending(self) -> tuple[Event, ...]:
        """The events that were recorded and are not stored yet, in their order."""
        return tuple(self._pending_events)

    def clear_pending(self) -> list[Event]:
        """Forget the pending events and return them, for example to append them without a repository.

        State and version stay as they are, so no snapshot is taken of this instance any more.
        """
        cleared = self._pending_events[:]
        self._diverged = self._diverged or bool(cleared)
        self._pending_events.clear()
        return cleared

    def apply(self, event: Event) -> None:
        """Change the state as an event says, and do nothing else.

        The default calls the method that ``@handles`` declares for the event's class or its nearest base class.

        Raises:
            UnknownEventType: no handler is declared for the event.
        """
        handlers, cls = self._handlers, type(event)
        if cls not in handlers:
            cls = self._handled_base(event)
        getattr(self, handlers[cls])(event)

    def _apply_unless_ignored(self, event: Event) -> None:
        if event.event_type not in self.ignored:
            self.apply(event)

    def _handled_base(self, event: Event) -> type[Event]:
        """The nearest class above the event's that a handler is declared for."""
        for base in type(event).__mro__:
            if base in self._handlers:
                return base
        raise UnknownEventType(
            event.event_type,
            f"{event.event_type} of {type(self).__name__} {self.id}",
            f"{type(self).__name__} declares no handler for it: add one with @handles, override apply, or name the "
            "type in `ignored`",
        )

    def _record(self, event: Event) -> None:
        """Apply an event and add a copy of it to the pending events.

        If ``apply`` raises, the event is not added. What ``apply`` had changed by then stays changed, so no snapshot is
        taken of this instance any more. Inside a block of ``eventstore.context.causing`` the event gets its metadata.

        Raises:
            InvalidArgument: ``event`` is not an Event.
        """
        if not isinstance(event, Event):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"only events can be recorded, not {type(event).__name__}")
        recorded, event = event, in_context(event)
        # The state may come to share a list with the event, and change it; what happened does not change.
        kept = detached(event)
        mark_used(recorded)
        try:
            self.apply(event)
        except BaseException:
            self._diverged = True
            raise
        if was_asked_for_its_place(event):
            self._diverged = True  # A replay tells it another one.
        self._pending_events.append(kept)

    @classmethod
    def from_events(cls, id: UUID | str, events: Iterable[Event]) -> Self:  # noqa: A002
        """Return the aggregate that these events lead to: all events of its stream, as a store returned them."""
        aggregate = cls(id)
        aggregate.replay(events)
        return aggregate

    def replay(self, events: Iterable[Event]) -> int:
        """Apply the events after the instance's version, as a store returned them, and return how many there were.

        If the first is not the next version, it is a closing event, and the instance begins there as a new one.
        """
        apply = self._apply_unless_ignored if self.ignored else self.apply
        events = iter(events)
        first = next(events, None)
        if first is None:
            return 0
        last: Event = first
        if first.version > self._version + 1:
            self._begin_again()
            self._version = StreamVersion(first.version - 1)
        before = version = int(self._version)
        for last in chain([first], events):
            apply(last)
            version += 1
            if "_subjects" in last.__dict__:  # It held something sealed.
                self._subjects |= last.__dict__["_subjects"]
                self._unopened = self._unopened or bool(last.sealed)
        self._version, self._event_id = StreamVersion(version, last.position), last.event_id
        return version - before

    def _begin_again(self) -> None:
        """Be as a new instance is."""
        new = type(self)(self.id)
        self.__dict__.clear()
        self.__dict__.update(new.__dict__)

    def _mark_stored(self, events: Sequence[Event], version: StreamVersion) -> None:
        """Note that the first pending events are stored, as these are, unless their transaction is rolled back."""
        self._unconfirmed.append(Unconfirmed(self._version, events))
        del self._pending_events[: len(events)]
        self._version = version
        self._event_id = events[-1].event_id

    def _confirm(self, version: int) -> None:
        """Note that the appends up to a version are committed: they need not be sent again."""
        self._unconfirmed = [each for each in self._unconfirmed if each.after >= version]

    def _copied(self) -> Self:
        """The same aggregate, without pending events, that shares nothing that changes with this one."""
        made = type(self).__new__(type(self))
        made._begin(self.id)
        made._version, made._event_id = self._version, self._event_id
        made._subjects, made._unopened = set(self._subjects), self._unopened
        state = {name: value for name, value in self.__dict__.items() if name not in _INTERNAL}
        made.__dict__.update(copied(state, {id(self): made}))  # What refers to its aggregate refers to the copy.
        return made

    def snapshot_state(self) -> dict[str, Any]:
        """Return what a snapshot stores: every attribute, except those that a ``functools.cached_property`` computes.

        Override it together with ``restore_state``.
        """
        cls = type(self)
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in _INTERNAL and not isinstance(getattr(cls, name, None), cached_property)
        }

    def restore_state(self, state: dict[str, Any]) -> None:
        """Restore, in a new instance, what ``snapshot_state`` returned."""
        self.__dict__.update(state)

    @classmethod
    def class_schema(cls) -> str:
        """Return a fingerprint of what the state consists of. A snapshot with another fingerprint is not used."""
        return _schema(cast("Any", cls), cls.category, cls.snapshot_version)


@cache
def _schema(cls: Any, category: str, snapshot_version: int) -> str:
    """Once for a class: its annotations take long to resolve."""
    learn(cls)
    revisions = sorted(_revisions_of(cls._handlers))
    ignored = [f"ignored {name}" for name in sorted(cls.ignored)]
    defaults = [f"{name}{_written_default(make)}" for name, make in sorted(cls._defaults.items())]
    personal = sorted(_personal_fields({cls, *cls._handlers}))
    text = "\n".join(
        [f"{category} {snapshot_version}", *defaults, *ignored, *revisions, *personal, *described_fields(cls)]
    )
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _revisions_of(classes: Iterable[type[Event]]) -> set[str]:
    """The revisions above 1 of the events that make the state, and of what stands in them: others make other states."""
    found: set[str] = set()
    for event_class in classes:
        for each in reachable(event_class):
            if revision_of(each) > 1:
                found.add(f"{each.__name__} of revision {revision_of(each)}")
        if event_class is not Event:  # Below that is all that the process has imported.
            found |= _revisions_of(event_class.__subclasses__())
    return found


def _personal_fields(classes: Iterable[type]) -> set[str]:
    """What of a class and of its events is personal: a snapshot from before it was marked is not sealed."""
    return {f"personal {each.__name__}.{name}" for cls in classes for each in reachable(cls) for name in _marked(each)}


def _marked(cls: type) -> Iterable[str]:
    return () if issubclass(cls, Enum) else marks_of(cast("type[Any]", cls)).personal


def _written_default(make: Callable[[], Any]) -> str:
    """A constant that a class begins with: another one leads to other states. Times and UUIDs may be new each time."""
    constant = make.args[0] if isinstance(make, partial) and make.func is copy.deepcopy else None
    return f" = {constant!r}" if type(constant) in {bool, int, float, str, bytes, Decimal} else ""


def stream_id_of(cls: type[Aggregate[Any]], aggregate_id: UUID | str) -> str:
    """Return the stream id of an aggregate. Raises InvalidArgument for an invalid id."""
    if not isinstance(aggregate_id, UUID):
        check_name(f"the id of {cls.__name__}", aggregate_id)
    return check_name("stream_id", f"{cls.category}-{aggregate_id}")


def _own_defaults(cls: type) -> dict[str, Callable[[], Any]]:
    annotations = own_annotations(cls)
    defaults: dict[str, Callable[[], Any]] = {}
    for name, value in cls.__dict__.items():
        if name.startswith(("__", "_abc_")) or name in Aggregate.__dict__ or is_class_variable(annotations.get(name)):
            continue
        if isinstance(value, dataclasses.Field):
            defaults[name] = _factory_of(cast("dataclasses.Field[Any]", value))
        elif not callable(value) and not hasattr(value, "__get__"):
            defaults[name] = _copier_of(value)
    return defaults


def _factory_of(specifier: dataclasses.Field[Any]) -> Callable[[], Any]:
    if specifier.default_factory is not dataclasses.MISSING:
        return specifier.default_factory
    if specifier.default is dataclasses.MISSING:
        raise InvalidArgument("a field of an aggregate needs a default or a default_factory: it starts without events")
    return _copier_of(specifier.default)


def _copier_of(value: Any) -> Callable[[], Any]:
    return partial(copy.deepcopy, value)


def _own_handlers(cls: type) -> dict[type[Event], str]:
    handlers: dict[type[Event], str] = {}
    for name, method in cls.__dict__.items():
        event_class = getattr(method, "__dict__", {}).get("_handles")
        if event_class is None:
            continue
        if event_class in handlers:
            raise InvalidArgument(
                f"{cls.__name__} declares two handlers for {event_class.__name__}: {handlers[event_class]} and {name}"
            )
        handlers[event_class] = name
    return handlers
