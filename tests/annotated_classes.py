"""Classes as users write them: without `from __future__ import annotations`, except where test_annotations.py adds it.

A name that Python 3.11 to 3.13 would look up too early stands in quotes, as users have to write it there.
"""

import enum
import typing
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Optional, TypeVar, Union
from uuid import UUID

from eventstore import Aggregate, Event, handles, register_type

if TYPE_CHECKING:
    from fractions import Fraction

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1


class Size(enum.IntEnum):
    """An Enum with annotations of its own."""

    metres: int

    SMALL = 1


@dataclass
class Price:
    amount: Decimal
    currency: str = "EUR"


@register_type
@dataclass(frozen=True)
class Registered:
    price: Price
    later: "list[Later]" = field(default_factory=list)


class Audited:
    """A mixin whose fields a dataclass ignores, as it is no dataclass itself."""

    reviewed: ClassVar[bool] = False
    by: str


@dataclass
class Created(Event):
    event_type: str = "annotated.Created"
    customer_id: UUID
    items: list[dict]


class Shipped(Event):
    event_type: str = "annotated.Shipped"
    shared: ClassVar[int] = 7
    notes: list[str] = field(default_factory=list)
    tracking_number: str


@dataclass
class Explicit(Event):
    _: KW_ONLY
    first: int = 1
    second: int


@dataclass(frozen=True)
class Frozen(Event):
    amount: Decimal = Decimal(0)
    colour: Colour


@dataclass(frozen=True)
class FrozenBelow(Frozen):
    size: Size = Size.SMALL


class ShippedAbroad(Audited, Shipped):
    country: str


class Boxed(Event, Generic[T]):
    content: T
    price: Price


class Forward(Event):
    later: "Later"
    more: "list[Later] | None" = None


class ForCheckersOnly(Event):
    share: "Fraction"
    price: Price


class Order(Audited, Aggregate["Order"]):
    category: ClassVar[str] = "annotated.Order"
    limits: ClassVar[list[int]] = [1]
    quoted: "ClassVar[list[int]]" = [2]
    items: list[dict] = field(default_factory=list)
    status: str = "pending"
    price: Price | None = None
    later: "Optional[Later]" = None

    @handles(Created)
    def _created(self, event: Created) -> None:
        self.items = event.items

    @handles(Forward)
    def _forward(self, event: Forward) -> None:
        self.later = event.later


class Rich(Aggregate["Rich"]):
    """One of each kind of annotation whose text must be the same in each form and on each Python."""

    a: Optional[int] = None
    b: Union[int, str, None] = None
    c: typing.List[int] = field(default_factory=list)
    d: Callable[[int, str], None] | None = None
    e: Callable[..., Any] | None = None
    f: tuple[int, ...] = ()
    g: Literal["a", 1] = "a"
    h: Literal[Colour.RED] = Colour.RED
    i: typing.Annotated[int, "documented"] = 1
    j: dict[str, "Price"] = field(default_factory=dict)
    k: "typing.Mapping[str, typing.Optional[Price]]" = field(default_factory=dict)
    l: "list[Fraction] | None" = None  # noqa: E741
    m: type[Price] = Price
    n: typing.Any = None
    o: "dict[Fraction, Price]" = field(default_factory=dict)


@dataclass
class Later:
    number: int
    colours: set[Colour] = field(default_factory=set)


def made_in_a_function() -> tuple[type[Event], type[Aggregate[Any]], type[enum.Enum]]:
    @register_type
    class Inner(enum.Enum):
        ONE = 1

    @dataclass
    class MadeThere(Event):
        kind: str = "plain"
        inner: Inner
        other: "list[Inner]"

    class Keeper(Aggregate["Keeper"]):
        shared: ClassVar[list[int]] = [1]
        kept: list[Inner] = field(default_factory=list)

        @handles(MadeThere)
        def _made(self, event: MadeThere) -> None:  # pyright: ignore[reportUnusedFunction]
            self.kept = [event.inner, *event.other]

    return MadeThere, Keeper, Inner
