"""Events: what happened, as the application says it.

A class of events is a dataclass with keyword arguments; it need not be decorated. Its fields are what is stored::

    class OrderShipped(Event):
        tracking_number: str

    OrderShipped(tracking_number="1Z", metadata={"user": "ann"})
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from inspect import Parameter, Signature
from typing import Any, ClassVar, dataclass_transform
from uuid import UUID

from eventstore.codec.annotations import add_annotations, described, is_class_variable, own_annotations
from eventstore.codec.personal import Personal, check_event_marks, check_personal_metadata, early_marks
from eventstore.codec.record import ENVELOPE_READERS, Record
from eventstore.codec.showing import represented
from eventstore.codec.upcasting import check_revision
from eventstore.codec.values import copied, default_of, is_required, uuid_of
from eventstore.errors import InvalidArgument
from eventstore.event_types import claim_event_type, event_class
from eventstore.names import check_name

_VERSION_7 = 7 << 76 | 2 << 62
_RANDOM_OR_TIME = ~(0xF << 76 | 0x3 << 62)

ENVELOPE = frozenset(ENVELOPE_READERS)
"""The attributes that every event has beside its own fields."""

_RESERVED = (
    ENVELOPE
    | {"data", "_data", "_fields", "_record", "_id_given", "_used", "_caused", "aggregate_id", "sealed", "tags"}
    | {"_sealed", "_subjects", "_personal_metadata"}
)
"""What a class of events can't define. `tags` is for later versions of the library."""


def new_event_id() -> UUID:
    """A version 7 UUID (RFC 9562): milliseconds since 1970, then 74 random bits. Later ids sort after earlier ones."""
    number = max(time.time_ns(), 0) // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    return uuid_of(number & _RANDOM_OR_TIME | _VERSION_7)


def _checked_envelope(event_id: object, timestamp: object, metadata: object) -> dict[str, Any]:
    envelope: dict[str, Any] = {}
    if event_id is None:
        event_id = new_event_id()
    elif not isinstance(event_id, UUID):
        raise InvalidArgument(f"event_id must be a UUID, not {type(event_id).__name__}")
    else:
        envelope["_id_given"] = True
    if timestamp is None:
        timestamp = datetime.now(UTC)
    elif not isinstance(timestamp, datetime):
        raise InvalidArgument(f"timestamp must be a datetime, not {type(timestamp).__name__}")
    else:
        offset = timestamp.utcoffset()
        if offset is None:
            raise InvalidArgument(f"timestamp {timestamp} has no time zone; use datetime.now(UTC), or give it one")
        if offset.microseconds:
            raise InvalidArgument(f"timestamp {timestamp} has an offset that is not whole seconds")
    envelope |= {"event_id": event_id, "timestamp": timestamp}
    if metadata is None:
        return envelope
    if not isinstance(metadata, dict):
        raise InvalidArgument(f"metadata must be a dict, not {type(metadata).__name__}")
    return {**envelope, "metadata": metadata}


class _EnvelopeAttribute:
    """An attribute that every event has. It is found, or decoded, when somebody asks for it first.

    Type checkers take the calls in Event's body for a dataclass's fields, so each attribute is declared once. As this
    defines no ``__set__``, a value in the event's ``__dict__`` hides it: only the first access runs Python code.
    """

    def __init__(self, doc: str, default: Any, default_factory: Any) -> None:
        self.__doc__ = doc
        self._default = default
        self._default_factory = default_factory
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<the {self._name} of an event>"

    def __get__(self, event: Event | None, owner: type) -> Any:
        if event is None:
            return self
        attributes, name = event.__dict__, self._name
        record: Record | None = attributes.get("_record")
        if record is None:
            if name in {"event_id", "timestamp", "event_type"}:
                raise AttributeError(f"{owner.__name__!r} object has no attribute {name!r}", name=name, obj=event)
            attributes[name] = self._default if self._default_factory is None else self._default_factory()
        else:
            attributes[name] = ENVELOPE_READERS[name](record)
        return attributes[name]


def _attribute(doc: str, *, default: Any = None, default_factory: Any = None, init: bool = True) -> Any:  # noqa: ARG001 init is for type checkers
    return _EnvelopeAttribute(doc, default, default_factory)


@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field, _attribute))
class _KeywordFields:
    """Tells type checkers that classes below have a dataclass's constructor; ``Event`` itself is one of them."""


class Event(_KeywordFields):
    """Something that happened.

    Subclass it with the fields of your event. The subclass is a dataclass with keyword arguments; it needs no
    decorator. It is stored under its name, unless the body says ``event_type: str = "..."``.

    >>> class OrderShipped(Event):
    ...     tracking_number: str
    ...     carrier: str = "DHL"
    >>> event = OrderShipped(tracking_number="1Z", metadata={"user": "ann"})
    >>> event.carrier
    'DHL'
    >>> event
    OrderShipped(tracking_number='1Z', carrier='DHL')

    Two events are equal if their ids, types, data, metadata and timestamps are equal.
    ``dataclasses.replace(event, field=...)`` makes another event: it keeps the timestamp and the metadata, and gets a
    new event_id.

    ``class OrderShipped(Event, revision=2, formerly=["OrderDispatched"])`` declares that the fields have changed once,
    so that older events need an upcaster, and that the class had another name.

    ``class OrderShipped(Event, personal_metadata={"ip": Personal()})`` declares keys of ``metadata`` that are sealed,
    as fields with ``Annotated[..., Personal(...)]`` are.

    ``Event(event_type="OrderShipped", data={...})`` makes an event without a class.

    Args:
        event_type: the name under which the event is stored.
        data: the fields of the event.
        event_id: the identity of the event; by default a new version 7 UUID.
        timestamp: when it happened, with a time zone; by default now, in UTC.
        metadata: what is known about the event without being part of it.
        revision: the revision of the class that ``data`` belongs to; by default the one that this program has.

    Raises:
        InvalidArgument: ``timestamp`` has no time zone, ``event_id`` is not a UUID, or ``metadata`` or ``data`` is not
            a dict.
    """

    event_id: UUID = _attribute(
        "The event's identity. The store recognises a second append of the same event by it.",
        default_factory=new_event_id,
    )
    event_type: str = _attribute("The name under which events of this class are stored.", init=False)
    timestamp: datetime = _attribute(
        "When it happened: an aware datetime, by default now in UTC. The store keeps its offset, not a zone's name.",
        default_factory=lambda: datetime.now(UTC),
    )
    metadata: dict[str, Any] = _attribute(
        "What is known about the event without being part of it: the user, the request, the cause.",
        default_factory=dict[str, Any],
    )
    stream_id: str = _attribute(
        "The stream that the event was read from; empty if it was not read from a store.", default="", init=False
    )
    version: int = _attribute(
        "The event's place in its stream, from 1; 0 if it was not read from a store.", default=0, init=False
    )
    position: int = _attribute(
        "The event's place in the log of all streams, rising with gaps; 0 if it was not read from a store.",
        default=0,
        init=False,
    )

    revision: int = _attribute(
        "The revision of the event's class that stored it, or that will store it: 1 unless the class says more.",
        default=1,
        init=False,
    )

    _fields: ClassVar[Mapping[str, dataclasses.Field[Any]] | None] = None
    _personal_metadata: ClassVar[Mapping[str, Personal]] = {}

    def __init__(
        self,
        *,
        event_type: str,
        data: dict[Any, Any] | None = None,
        event_id: UUID | None = None,
        timestamp: datetime | None = None,
        metadata: dict[str, Any] | None = None,
        revision: int | None = None,
    ) -> None:
        if data is not None and not isinstance(data, dict):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"data must be a dict, not {type(data).__name__}")
        check_name("event_type", event_type)
        self.__dict__.update(_checked_envelope(event_id, timestamp, metadata))
        self.__dict__["event_type"] = event_type
        self.__dict__["_data"] = {} if data is None else data
        if revision is None:
            cls = event_class(event_type)
            revision = 1 if cls is None else cls.revision
        self.__dict__["revision"] = check_revision("revision", revision)

    def __init_subclass__(
        cls,
        *,
        revision: int = 1,
        formerly: Iterable[str] = (),
        personal_metadata: Mapping[str, Personal] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        _make_event_class(cls, revision, formerly)
        if personal_metadata is not None:
            cls._personal_metadata = check_personal_metadata(cls, personal_metadata)

    @property
    def data(self) -> dict[Any, Any]:
        """The event's own fields by name, as they are stored."""
        if self._fields is None:
            data: dict[Any, Any] = self.__dict__["_data"]
            return data
        attributes = self.__dict__
        return {name: attributes[name] for name in self._fields}

    @property
    def sealed(self) -> tuple[str, ...]:
        """The paths to the fields that show placeholders, such as ``email`` or ``lines[0].name``; usually empty.

        They could not be opened: their subject was forgotten, or the store has no subject keys. In an event without a
        class, a Sealed stands there instead.
        """
        found: tuple[str, ...] = self.__dict__.get("_sealed", ())
        return found

    @property
    def aggregate_id(self) -> str:
        """The part of ``stream_id`` after its first "-"; empty if the event was not read from a store."""
        return self.stream_id.partition("-")[2]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return (
            type(self) is type(other)
            and self.event_id == other.event_id
            and self.event_type == other.event_type
            and self.data == other.data
            and self.metadata == other.metadata
            and self.timestamp == other.timestamp
        )

    def __hash__(self) -> int:
        return hash(self.event_id)

    def __repr__(self) -> str:
        if self._fields is None:
            fields = {"event_type": self.event_type, "data": self.data}
        else:
            fields = {name: value for name, value in self.data.items() if self._fields[name].repr}
        marks = early_marks(type(self))
        personal = fields if marks is None else marks.personal  # A log or a traceback is no place for it.
        shown = ", ".join(
            f"{name}={'<personal>' if name in personal else represented(value)}" for name, value in fields.items()
        )
        return f"{type(self).__name__}({shown})"


def detached(event: Event) -> Event:
    """The same event as it is now, whatever becomes of the lists and dicts that it holds."""
    copy = object.__new__(type(event))
    object.__setattr__(copy, "__dict__", copied(event.__dict__, {}))  # The class may be frozen.
    return copy


_PLACE = frozenset({"stream_id", "version", "position"})


def was_asked_for_its_place(event: Event) -> bool:
    """Whether somebody asked an event that is not stored yet for its stream, version or position."""
    return not _PLACE.isdisjoint(event.__dict__)


def mark_used(event: Event) -> None:
    """Note that a stream may have an event with this id already."""
    event.__dict__["_used"] = True


_ADDED: dict[str, Any] = {
    "_": dataclasses.KW_ONLY,
    "timestamp": dataclasses.InitVar[datetime],
    "metadata": dataclasses.InitVar[dict[str, Any]],
}
"""What dataclass() sees before a class's own annotations, in the library's call and in a decorator's.

KW_ONLY allows a default before a non-default. InitVars are passed on by dataclasses.replace() and are no fields.
"""


def _make_event_class(cls: type[Event], revision: int, formerly: Iterable[str]) -> None:
    """Give a class below Event its fields, its constructor and its name, before a decorator sees it.

    The result is a dataclass in all but the constructor, whether the class is decorated with @dataclass or not.
    """
    if "__slots__" in cls.__dict__:
        raise InvalidArgument(f"{cls.__qualname__}: an event's class can't have slots")
    _check_reserved(cls)
    add_annotations(cls, _ADDED)
    for name, method in _METHODS.items():
        if name not in cls.__dict__:
            setattr(cls, name, method)  # A decorator leaves alone what is there.
    specifiers: dict[str, dataclasses.Field[Any]] = {
        n: v for n, v in cls.__dict__.items() if isinstance(v, dataclasses.Field)
    }
    has_doc = bool(cls.__doc__)
    # A dataclass below a frozen one must be frozen; the decorator wants to put these two methods there itself.
    inherited = [base.__dict__.get("__dataclass_params__") for base in cls.__mro__[1:]]
    if any(params and params.frozen for params in inherited):
        dataclasses.dataclass(frozen=True)(cls)
        del cls.__setattr__, cls.__delattr__
    else:
        dataclasses.dataclass(cls)
    _check_no_init_variables(cls)
    for name, specifier in specifiers.items():
        setattr(cls, name, specifier)  # For the decorator, which would otherwise find the field without its default.
    fields = {f.name: f for f in dataclasses.fields(cls) if f.name != "event_type"}
    for field in fields.values():
        if not field.init:
            raise InvalidArgument(
                f"{cls.__qualname__}.{field.name}: every field of an event is stored and given to its constructor; "
                "make a computed one a property"
            )
    check_event_marks(cls)
    event_type = cls.__dict__.get("event_type", cls.__name__)
    cls.revision = claim_event_type(cls, event_type, revision, formerly)
    cls.event_type = event_type
    cls._fields = fields
    cls.__signature__ = _signature(fields)  # type: ignore[attr-defined] # what help() and inspect look for
    if not has_doc:  # In place of what dataclass() wrote.
        cls.__doc__ = _doc(cls, fields)


def _check_reserved(cls: type) -> None:
    for base in cls.__mro__:
        if base is not cls and issubclass(base, Event):
            continue  # It was checked itself.
        for name in (base.__dict__.keys() | own_annotations(base).keys()) & _RESERVED:
            raise InvalidArgument(
                f"{cls.__qualname__}: nothing of it can be called {name!r}, every event has that already"
            )


def _check_no_init_variables(cls: type[Event]) -> None:
    stored = {field.name for field in dataclasses.fields(cls)}
    for name, field in cls.__dataclass_fields__.items():
        if name not in stored | _ADDED.keys() and not is_class_variable(field.type):
            raise InvalidArgument(
                f"{cls.__qualname__}.{name} is an InitVar, which would not be stored: make it a field, or compute what "
                "you need of it before you make the event"
            )


def _construct(self: Event, /, *args: Any, **values: Any) -> None:
    cls = type(self)
    if args:
        raise TypeError(f"{cls.__name__}() takes keyword arguments only")
    fields = cls._fields or {}
    attributes = self.__dict__
    if values.keys() == fields.keys():  # As almost all are made.
        attributes["event_id"] = new_event_id()
        attributes["timestamp"] = datetime.now(UTC)
        attributes.update(values)
    else:
        attributes.update(_completed(cls, fields, values))
    if hasattr(cls, "__post_init__"):
        cls.__post_init__(self)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue] a subclass's


def _completed(
    cls: type[Event], fields: Mapping[str, dataclasses.Field[Any]], values: dict[str, Any]
) -> dict[str, Any]:
    """The attributes of an event that is made with values for its envelope, or without some that have defaults."""
    if "event_type" in values and (event_type := values.pop("event_type")) != cls.event_type:
        raise InvalidArgument(
            f"an event of class {cls.__name__} has the event_type {cls.event_type!r}, not {event_type!r}"
        )
    envelope = _checked_envelope(
        values.pop("event_id", None), values.pop("timestamp", None), values.pop("metadata", None)
    )
    return envelope | _with_defaults(cls.__name__, fields, values)


def _with_defaults(name: str, fields: Mapping[str, dataclasses.Field[Any]], values: dict[str, Any]) -> dict[str, Any]:
    unknown = [n for n in values if n not in fields]
    if unknown:
        close = [repr(match) for n in unknown for match in get_close_matches(n, fields.keys() - values.keys(), n=1)]
        known = f"did you mean {', '.join(close)}?" if close else f"its fields are {', '.join(fields) or 'none'}"
        raise TypeError(f"{name}() has no field called {', '.join(map(repr, unknown))}; {known}")
    missing = [n for n, field in fields.items() if n not in values and is_required(field)]
    if missing:
        raise TypeError(f"{name}() needs the keyword argument(s) {', '.join(map(repr, missing))}")
    return {n: values[n] if n in values else default_of(field) for n, field in fields.items()}


_METHODS = {
    "__init__": _construct,
    "__eq__": Event.__eq__,
    "__hash__": Event.__hash__,
    "__repr__": Event.__repr__,
}


def _signature(fields: Mapping[str, dataclasses.Field[Any]]) -> Signature:
    own = [Parameter(n, Parameter.KEYWORD_ONLY, annotation=f.type, default=_shown(f)) for n, f in fields.items()]
    common = [Parameter(n, Parameter.KEYWORD_ONLY, default=None) for n in ("event_id", "timestamp", "metadata")]
    return Signature([*own, *common])


class _FactoryShown:
    """Stands in a signature for the default that a factory makes."""

    def __repr__(self) -> str:
        return "<factory>"


def _shown(field: dataclasses.Field[Any]) -> Any:
    if is_required(field):
        return Parameter.empty
    return field.default if field.default_factory is dataclasses.MISSING else _FactoryShown()


def _doc(cls: type[Event], fields: Mapping[str, dataclasses.Field[Any]]) -> str:
    """How the class is called, for a class without a docstring."""
    own = (f"{n}: {described(cls, f.type)}{'' if is_required(f) else ' = ...'}" for n, f in fields.items())
    return f"{cls.__name__}(*, {', '.join([*own, 'event_id=None, timestamp=None, metadata=None'])})"
