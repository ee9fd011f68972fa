"""Values and bytes: what is stored comes back equal and of the same type, or is refused; no bytes do harm.

EVENTSTORE_TEST_FUZZ is how many times as many values and mutations as usual to try (default 1: 50,000 of each).
"""

from __future__ import annotations

import enum
import math
import os
import random
import re
import struct
import subprocess
import sys
from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from round_trips import assert_comes_back, round_trip, shape

from eventstore import (
    DeserializationError,
    Event,
    SerializationError,
    register_type,
)
from eventstore.codec import MAX_BYTES, MAX_DEPTH, MAX_VALUES, UNCOUNTED_BYTES, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "format.md"
TIMES = int(os.environ.get("EVENTSTORE_TEST_FUZZ", "1"))


@register_type
class CodecColour(enum.Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796 an alias is what is to be tried
    GREEN = ("green", 2)


@register_type
class CodecLevel(enum.IntEnum):
    LOW = 1
    HIGH = 2


@register_type
class CodecCurrency(enum.StrEnum):
    EUR = "EUR"
    USD = "USD"


@register_type
class CodecPermission(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


@register_type
class CodecBits(enum.IntFlag):
    FIRST = 1
    SECOND = 2


@register_type
@dataclass
class CodecPlain:
    name: str
    inner: Any = None


@register_type
@dataclass(frozen=True)
class CodecMoney:
    amount: Any
    currency: Any


@register_type
@dataclass(slots=True)
class CodecSlots:
    a: Any
    b: Any = 0


# --- round trips ------------------------------------------------------------------------------------------------------

OFFSETS = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
HASHABLE_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**80), 2**80),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 2**1000, -(2**1000)]),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.sampled_from([Decimal(d) for d in ("NaN", "-NaN1234", "-0", "0E+20", "1.10", "1E+1000000", "-Infinity")]),
    st.datetimes(),
    st.datetimes(timezones=OFFSETS),
    st.datetimes(timezones=st.timezones(), allow_imaginary=False),
    st.dates(),
    st.times(),
    st.times(timezones=OFFSETS),
    st.timedeltas(),
    st.sampled_from(CodecColour),
    st.sampled_from(CodecLevel),
    st.sampled_from(CodecCurrency),
    st.integers(0, 7).map(CodecPermission),
    st.integers(0, 2**70).map(CodecBits),
)
HASHABLE = st.recursive(
    HASHABLE_SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(CodecMoney, inner, inner),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    HASHABLE | st.sampled_from([Decimal("sNaN"), Decimal("-sNaN7")]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.builds(CodecPlain, st.text(max_size=5), inner),
        st.builds(CodecSlots, inner, inner),
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_any_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    assert_comes_back(value)


ENDS = [datetime.min, datetime.max]  # noqa: DTZ901 without a zone, too
BERLIN = ZoneInfo("Europe/Berlin")
EXTREMES = {
    "NaN": math.nan,
    "a NaN with a sign and a payload": struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0],
    "infinities": [math.inf, -math.inf],
    "-0.0": -0.0,
    "the smallest float": 5e-324,
    "0 is not False": [0, False, 1, True],
    "ints around 64 bits": [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, -(2**64)],
    "ints around bytes": [sign * 2**bits + more for bits in range(64, 90) for sign in (1, -1) for more in (-1, 0, 1)],
    "an int beyond what str() takes": 10**5000,
    "such an int as a key": {10**5000: 10**5000},
    "decimals": [
        Decimal(d) for d in ("sNaN", "-sNaN1", "NaN", "-0", "-0.00", "0E-30", "1E+999999", "1.10", "Infinity")
    ],
    "a decimal of many digits": Decimal("9" * 1000 + "." + "1" * 1000),
    "datetimes' ends": ENDS,
    "aware datetimes' ends": [
        end.replace(tzinfo=timezone(timedelta(seconds=seconds))) for end in ENDS for seconds in (-86_399, 0, 86_399)
    ],
    "a datetime in UTC": datetime(2024, 2, 29, tzinfo=UTC),
    "an hour that comes twice": [datetime(2024, 10, 27, 2, 30, fold=f, tzinfo=BERLIN) for f in (0, 1)],
    "an hour that never was": datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN),
    "fold without a zone": [datetime(2024, 1, 1, fold=1), time(1, fold=1)],  # noqa: DTZ001 that is the point
    "an offset of seconds": datetime(1800, 1, 1, tzinfo=ZoneInfo("Europe/Amsterdam")),
    "dates' ends": [date.min, date.max],
    "times' ends": [time.min, time.max, time.max.replace(tzinfo=timezone(timedelta(seconds=-86_399)), fold=1)],
    "a time in a zone that never changes": time(12, tzinfo=ZoneInfo("UTC")),
    "timedeltas' ends": [timedelta.min, timedelta.max, timedelta.resolution, -timedelta.resolution, timedelta()],
    "empty ones": [{}, [], (), set(), frozenset(), "", b""],
    "tuples in tuples": (((),), ((1,), [(2,)])),
    "keys of every kind": {
        None: 1,
        True: 2,
        2: 3,
        2.5: 4,
        "a": 5,
        b"a": 6,
        (1, (2,)): 7,
        frozenset({1}): 8,
        UUID(int=1): 9,
    },
    "keys that are enums": {CodecColour.RED: 1, CodecLevel.LOW: 2, CodecPermission.READ | CodecPermission.RUN: 3},
    "sets of sets": {frozenset({frozenset({1}), 2}), (frozenset(),)},
    "enums": [*CodecColour, *CodecLevel, *CodecCurrency],
    "flags": [CodecPermission(n) for n in range(8)] + [CodecBits(n) for n in (0, 3, 8, 2**70)],
    "dataclasses in each other": CodecPlain(
        "a", CodecSlots(CodecMoney(Decimal("1.10"), CodecCurrency.EUR), [CodecPlain("b")])
    ),
    "a long text": "ä" * 100_000,
    "every plane": "a\x00\x7f\x80\uffff\U0010ffff",
}


@pytest.mark.parametrize("value", EXTREMES.values(), ids=EXTREMES)
def test_the_extreme_values_of_each_type_come_back(value: Any) -> None:
    assert_comes_back(value)


def test_a_zone_comes_back_as_its_offset() -> None:
    found = round_trip(datetime(2024, 7, 1, 12, tzinfo=BERLIN))
    assert found.tzinfo == timezone(timedelta(hours=2))


def test_an_alias_of_an_enum_is_its_member() -> None:
    assert round_trip(CodecColour.CRIMSON) is CodecColour.RED


def test_the_order_of_a_dict_stays() -> None:
    assert list(round_trip({"b": 1, "a": 2, 3: 3})) == ["b", "a", 3]


class Generator:
    """Random values of every kind, faster by far than hypothesis makes them."""

    def __init__(self, seed: int) -> None:
        self.random = choose = random.Random(seed)  # noqa: S311 no secret
        zones = [None, UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/St_Johns")]
        start = datetime(1900, 1, 1)  # noqa: DTZ001 zones of all kinds are put to it
        self.scalars: list[Callable[[], Any]] = [
            lambda: choose.choice((None, True, False)),
            lambda: choose.randint(-200, 300),
            lambda: choose.getrandbits(choose.randrange(1, 130)) * choose.choice((1, -1)),
            lambda: struct.unpack("d", choose.randbytes(8))[0],
            self.text,
            lambda: choose.randbytes(choose.randrange(10)),
            lambda: UUID(bytes=choose.randbytes(16)),
            lambda: Decimal(choose.randint(-(10**12), 10**12)).scaleb(choose.randint(-20, 20)),
            lambda: (start + self.while_()).replace(tzinfo=choose.choice(zones), fold=choose.randrange(2)),
            lambda: (start + self.while_()).replace(tzinfo=self.offset()),
            lambda: date.fromordinal(choose.randint(1, date.max.toordinal())),
            lambda: (start + self.while_()).time(),  # noqa: PLW0108 another one each time
            lambda: timedelta(microseconds=choose.randrange(-(2**53), 2**53)),
            lambda: choose.choice((*CodecColour, *CodecLevel, *CodecCurrency, CodecPermission(choose.randrange(8)))),
        ]
        self.containers: list[Callable[[int, int], Any]] = [
            lambda size, depth: [self.value(depth) for _ in range(size)],
            lambda size, depth: tuple(self.value(depth) for _ in range(size)),
            lambda size, depth: {self.scalar(): self.value(depth) for _ in range(size)},
            lambda size, _: {self.scalar() for _ in range(size)},
            lambda size, _: frozenset((self.scalar(), self.scalar()) for _ in range(size)),
            lambda _, depth: CodecPlain(self.text(), self.value(depth)),
            lambda _, depth: CodecMoney(self.scalar(), self.value(depth)),
        ]

    def value(self, depth: int = 0) -> Any:
        if depth > 3 or self.random.random() < 0.6:
            return self.scalar()
        size = self.random.choice((0, 1, 2, 2, 3, 3 if depth else 20))
        return self.random.choice(self.containers)(size, depth + 1)

    def scalar(self) -> Any:
        return self.random.choice(self.scalars)()

    def text(self) -> str:
        return "".join(self.random.choices("abcxyz ._-äß€😀\0", k=self.random.randrange(12)))

    def offset(self) -> timezone:
        return timezone(timedelta(seconds=self.random.randint(-86_399, 86_399)))

    def while_(self) -> timedelta:
        return timedelta(microseconds=self.random.randrange(2**53))


def test_fifty_thousand_random_values_come_back() -> None:
    generator = Generator(1)
    for number in range(50_000 * TIMES):
        value = generator.value()
        assert shape(round_trip(value)) == shape(value), f"value {number} of seed 1: {value!r}"


def test_fifty_thousand_mutations_are_read_or_refused_with_a_typed_error() -> None:
    generator = Generator(2)
    choose = generator.random
    originals = [encode("test", {"value": [generator.value() for _ in range(8)]}) for _ in range(200)]
    markers = bytes([0x81, 0x91, 0xC1, 0xC4, 0xC7, 0xC9, 0xCB, 0xD4, 0xD8, 0xD9, 0xDB, 0xDC, 0xDD, 0xDF, *range(1, 14)])
    refused = 0
    for _ in range(50_000 * TIMES):
        mutated = bytearray(choose.choice(originals))
        for _ in range(choose.choice((1, 1, 1, 2, 4))):
            at = choose.randrange(len(mutated) or 1)
            match choose.randrange(6):
                case 0:
                    mutated[at : at + 1] = choose.randbytes(1)
                case 1:
                    mutated[at : at + 1] = bytes([choose.choice(markers)])
                case 2:
                    mutated[at : at + choose.randrange(6)] = b""
                case 3:
                    mutated[at:at] = choose.randbytes(choose.randrange(1, 6))
                case 4:
                    mutated[at:at] = mutated[choose.randrange(len(mutated) or 1) :][: choose.randrange(40)]
                case _:
                    del mutated[at:]
        try:
            decode(bytes(mutated))
        except DeserializationError:
            refused += 1
    assert refused > 10_000  # Else they were no mutations worth the name.


# --- what is refused --------------------------------------------------------------------------------------------------


class CodecUnregisteredEnum(enum.Enum):
    A = 1


@dataclass
class CodecUnregistered:
    a: int


class Text(str):
    __slots__ = ()


class Broken(tzinfo):
    """As zones of others' may be."""


@register_type
@dataclass
class CodecList(list):
    name: str


@register_type
@dataclass
class CodecFailure(Exception):
    code: int


def with_an_extra_attribute() -> CodecPlain:
    value = CodecPlain("a")
    value.__dict__["extra"] = 1
    return value


def without_a_value() -> CodecSlots:
    value = CodecSlots(1)
    del value.b
    return value


Point = namedtuple("Point", "x y")  # noqa: PYI024 one of the plain kind

REFUSED = {
    "object": (object(), "not among those that can be stored"),
    "str subclass": (Text("a"), "a Text would come back as a str"),
    "int subclass": (type("Number", (int,), {})(1), "would come back as a int"),
    "dict subclass": (OrderedDict(a=1), "a OrderedDict would come back as a dict"),
    "bytearray": (bytearray(b"a"), "would come back as bytes"),
    "memoryview": (memoryview(b"a"), "would come back as bytes"),
    "namedtuple": (Point(1, 2), "a Point would come back as a tuple"),
    "ExtType": (msgpack.ExtType(3, b"\0" * 16), "would come back as a tuple"),
    "Timestamp": (msgpack.Timestamp(1), "not among those that can be stored"),
    "deque": (deque([1]), "not among those that can be stored"),
    "complex": (1j, "not among those that can be stored"),
    "Fraction": (Fraction(1, 3), "not among those that can be stored"),
    "range": (range(3), "not among those that can be stored"),
    "function": (len, "not among those that can be stored"),
    "class": (CodecPlain, "not among those that can be stored"),
    "lone surrogate": ("a\ud800", "lone surrogate"),
    "unregistered enum": (CodecUnregisteredEnum.A, "CodecUnregisteredEnum is not registered: decorate it"),
    "unregistered dataclass": (CodecUnregistered(1), "CodecUnregistered is not registered: decorate it"),
    "unregistered class below a registered one": (type("Below", (CodecMoney,), {})(1, 2), "Below is not registered"),
    "an attribute that is no field": (with_an_extra_attribute(), "attribute 'extra' that is not a field"),
    "a field without a value": (without_a_value(), "no value for its field 'b'"),
    "a dataclass that is a list": (CodecList("a"), "more than its fields"),
    "a dataclass that is an exception": (CodecFailure(1), "more than its fields"),
    "a time whose zone needs a date": (time(1, tzinfo=BERLIN), "only together with a date"),
    "an offset below a second": (datetime(1, 1, 2, tzinfo=timezone(timedelta(microseconds=1))), "not whole seconds"),
    "such an offset of a time": (time(1, tzinfo=timezone(timedelta(microseconds=1))), "not whole seconds"),
    "an event": (Event(event_type="codec.Inner"), "not among those that can be stored"),
}
PLACES = {
    "value": lambda value: ({"value": value}, "value"),
    "list": lambda value: ({"a": [0, {"b c": value}]}, "a[1].b c"),
    "tuple": lambda value: ({"a": (0, 1, (value,))}, "a[2][0]"),
    "number as a key": lambda value: ({7: {2.5: value}}, "[7][2.5]"),
    "field": lambda value: ({"a": CodecPlain("x", CodecMoney(1, value))}, "a.inner.currency"),
}


@pytest.mark.parametrize(("value", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_would_not_come_back_is_refused_with_its_path(value: Any, reason: str) -> None:
    for place in PLACES.values():
        data, path = place(value)
        with pytest.raises(SerializationError, match=re.escape(reason)) as caught:
            encode("OrderCreated", data)
        assert (caught.value.subject, caught.value.path) == ("OrderCreated", path)
        assert str(caught.value).startswith(f"OrderCreated: {path} can't be stored: ")


def test_a_key_and_a_member_of_a_set_are_refused_with_their_path() -> None:
    for data, path in (
        ({"a": {Text("k"): 1}}, "a['k']"),
        ({"a": {(1, Text("k")): 1}}, "a[(1, 'k')][1]"),
        ({"a": {1, Text("k")}}, "a{...}"),
        ({"a": frozenset({(Text("k"),)})}, "a{...}[0]"),
        ({"a\ud800": 1}, "['a\\ud800']"),
    ):
        with pytest.raises(SerializationError) as caught:
            encode("test", data)
        assert caught.value.path == path
        str(caught.value).encode()  # It can be logged.


def test_what_a_zone_of_the_application_s_raises_is_a_serialization_error() -> None:
    with pytest.raises(SerializationError, match="utcoffset"):
        encode("test", {"a": datetime(2024, 1, 1, tzinfo=Broken())})


def nested(depth: int, wrap: Any) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS = {
    "list": lambda value: [value],
    "dict": lambda value: {"a": value},
    "tuple": lambda value: (value,),
    "frozenset": lambda value: frozenset({value}),
    "key": lambda value: {(value,): 1} if isinstance(value, int) else (value,),
    "dataclass": lambda value: CodecPlain("a", value),
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_values_may_be_nested_to_a_limit(wrap: Any) -> None:
    if wrap is not WRAPS["key"]:
        assert_comes_back(nested(MAX_DEPTH, wrap))
    for depth in (MAX_DEPTH + 1, 10_000):
        with pytest.raises(SerializationError, match=f"more than {MAX_DEPTH} deep"):
            encode("test", {"value": nested(depth, wrap)})


@pytest.mark.parametrize("levels", [MAX_DEPTH + 2, 300])
def test_a_few_bytes_can_not_be_nested_deeper_either(levels: int) -> None:
    """Each level is a parser with a stack of its own: two hundred of them would crash the process."""
    packed = b"\x91\x00"
    for _ in range(levels):
        packed = b"\x91" + msgpack.packb(msgpack.ExtType(8, packed))
    with pytest.raises(DeserializationError, match=f"nested more than {MAX_DEPTH} deep"):
        decode(b"\x81\xa1a" + packed)


def test_what_stands_inside_itself_is_refused() -> None:
    inside: list[Any] = []
    inside += [inside, inside]
    plain = CodecPlain("a")
    plain.inner = {"self": plain}
    for value in (inside, plain):
        with pytest.raises(SerializationError, match="inside itself"):
            encode("test", {"value": value})


def test_a_value_of_the_largest_size_comes_back_and_one_byte_more_is_refused() -> None:
    largest = b"x" * (MAX_BYTES - len(b"\x81\xa5value\xc6\x00\x00\x00\x00"))
    assert len(encode("test", {"value": largest})) == MAX_BYTES
    assert round_trip(largest) == largest
    with pytest.raises(SerializationError, match="16,777,217 bytes, more than the limit of 16,777,216"):
        encode("test", {"value": largest + b"x"})
    with pytest.raises(DeserializationError, match="16,777,217 bytes, more than the limit of 16,777,216"):
        decode(encode("test", {"value": largest}) + b"x")


def test_the_largest_number_of_values_comes_back_and_one_more_is_refused() -> None:
    most = [0] * (MAX_VALUES - 3)  # The map, its key and the array are values, too.
    packed = encode("test", {"value": most + [0] * 3})[: 1 + 6 + 1]
    assert packed == b"\x81\xa5value\xdd"
    # Below the size from which they are counted, there can't be more than it has bytes.
    assert len(encode("test", {"value": most})) < UNCOUNTED_BYTES
    text = "x" * UNCOUNTED_BYTES
    assert round_trip([text, *most[2:]]) == [text, *most[2:]]
    for value in ([text, *most], [text, *((0,) * 1000 for _ in range(1000))]):
        with pytest.raises(SerializationError, match="holds more than 1,000,000 values"):
            encode("test", {"value": value})


def test_containers_that_copy_each_other_too_often_are_refused_both_ways() -> None:
    text = "x" * (MAX_BYTES - 1000)
    assert round_trip((text,)) == (text,)
    with pytest.raises(SerializationError, match="nested tuples, sets and dataclasses"):
        encode("test", {"value": nested(3, lambda value: (value or text,))})


# --- bytes that mean harm ---------------------------------------------------------------------------------------------


def test_bytes_that_are_not_a_map_are_refused() -> None:
    for packed in (b"\x90", b"\x01", b"\xc0", b"\xa1a", msgpack.packb(msgpack.ExtType(8, b"\x90"))):
        with pytest.raises(DeserializationError, match="it is not a map"):
            decode(packed)


DAMAGED = {
    "nothing": "",
    "cut off": "81 a1 61",
    "more behind it": "80 00",
    "no marker": "81 a1 61 c1",
    "text that is no UTF-8": "81 a1 61 a1 ff",
    "an unknown extension": "81 a1 61 d4 0d 00",
    "msgpack's own timestamp, of year 10000": "81 a1 61 c7 0c ff 00 00 00 00 00 00 00 3b 00 00 00 00",
    "a key that can't be one": "81 90 00",
    "a UUID of 15 bytes": "81 a1 61 c7 0f 03" + "00" * 15,
    "a UUID of 17 bytes": "81 a1 61 c7 11 03" + "ff" * 17,
    "no decimal": "81 a1 61 d5 02 31 78",
    "a date of year 0": "81 a1 61 d6 05 00 00 00 00",
    "a time of 25 hours": "81 a1 61 d7 06 00 00 00 14 f4 6b 04 00",
    "a time before midnight": "81 a1 61 d7 06 ff ff ff ff ff ff ff ff",
    "an offset of a day": "81 a1 61 c7 0c 04 00 00 00 00 00 00 00 00 00 01 51 80",
    "a zone of 3 bytes": "81 a1 61 c7 0b 04 00 00 00 00 00 00 00 00 00 00 00",
    "a fold of 2": "81 a1 61 c7 09 04 00 00 00 00 00 00 00 00 02",
    "a datetime of year 10000": "81 a1 61 d7 04 03 ff ff ff ff ff ff ff",
    "a tuple that is a map": "81 a1 61 d4 08 80",
    "a set with a member twice": "81 a1 61 c7 03 09 92 01 01",
    "a set with a list in it": "81 a1 61 d5 09 91 90",
    "a dataclass nobody registered": "81 a1 61 c7 05 0c 92 a2 3f 3f 80",
    "an enum that is a dataclass": "81 a1 61 c7 0e 0b 92 aa" + b"CodecPlain".hex() + "a1 41",
    "a dataclass that is an enum": "81 a1 61 c7 0e 0c 92 ab" + b"CodecColour".hex() + "80",
    "a name that is a list": "81 a1 61 c7 03 0c 92 90 80",
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED)
def test_damaged_bytes_are_refused(damaged: str) -> None:
    with pytest.raises(DeserializationError):
        decode(bytes.fromhex(damaged))


def test_a_member_that_an_enum_no_longer_has_is_named() -> None:
    packed = encode("test", {"value": CodecColour.GREEN}).replace(b"GREEN", b"GREY!")
    with pytest.raises(DeserializationError, match="CodecColour has no member 'GREY!'"):
        decode(packed)


def test_a_module_s_path_is_only_a_name() -> None:
    packed = encode("test", {"value": CodecColour.RED}).replace(b"CodecColour", b"os.path.sep")
    with pytest.raises(DeserializationError, match=r"no Enum is registered as 'os\.path\.sep'"):
        decode(packed)


HARMFUL = """
import os, struct, sys, time
from eventstore import DeserializationError
from eventstore.codec import MAX_BYTES, MAX_VALUES, UNCOUNTED_BYTES, decode

def filled(pattern, size):
    return (b"\\x81\\xa1a" + pattern * (size // len(pattern)))[:size]

def announced(count, pattern, size=None):
    return b"\\x81\\xa1a\\xdd" + struct.pack(">I", count) + pattern * count

def extension(code, payload):
    return b"\\xc9" + struct.pack(">IB", len(payload), code) + payload

def tuples(levels, size):
    inner = b"\\xc6" + struct.pack(">I", size) + bytes(size)
    for _ in range(levels):
        inner = extension(8, b"\\x91" + inner)
    return b"\\x81\\xa1a" + inner

def times(count):
    packed = bytearray(b"\\x81\\xa1a\\xdd" + struct.pack(">I", count))
    for n in range(count):
        packed += b"\\xc7\\x0c\\x04" + struct.pack(">qi", n, n % 86_400)
    return bytes(packed)

BOMBS = {}
for size in (MAX_BYTES, UNCOUNTED_BYTES):
    BOMBS |= {
        f"arrays in arrays, {size}": lambda size=size: filled(b"\\x91", size),
        f"maps in maps, {size}": lambda size=size: filled(b"\\x81\\xa0", size),
        f"tuples in tuples, {size}": lambda size=size: tuples(300, size - 4000),
        f"tuples in tuples, as deep as can be, {size}": lambda size=size: tuples(64, size - 1000),
        f"announced arrays, {size}": lambda size=size: filled(b"\\xdd" + struct.pack(">I", size - 9), size),
        f"announced short arrays, {size}": lambda size=size: filled(b"\\xdc\\xff\\xff", size),
        f"announced maps, {size}": lambda size=size: filled(b"\\xdf" + struct.pack(">I", size - 9) + b"\\xa0", size),
        f"empty maps, {size}": lambda size=size: announced(size - 8, b"\\x80"),
        f"empty arrays, {size}": lambda size=size: announced(size - 8, b"\\x90"),
        f"empty sets, {size}": lambda size=size: announced(size // 4 - 8, b"\\xd4\\x09\\x90"),
        f"one text with one wide character, {size}": lambda size=size: (
            b"\\x81\\xa1a\\xdb" + struct.pack(">I", size - 8) + "\\U0001f600".encode() + b"a" * (size - 12)),
    }
BOMBS |= {
    "as many empty maps as may be": lambda: announced(MAX_VALUES - 3, b"\\x80"),
    "as many maps of one as may be": lambda: announced(MAX_VALUES // 3 - 1, b"\\x81\\xa0\\xa0"),
    "as many empty sets as may be": lambda: announced(MAX_VALUES // 2 - 2, b"\\xd4\\x09\\x90"),
    "as many times in zones as may be": lambda: times(MAX_VALUES - 3),
    "as many decimals as may be": lambda: announced(MAX_VALUES - 3, b"\\xd5\\x02-1"),
    "a number of 16 MiB": lambda: b"\\x81\\xa1a" + extension(1, b"\\x7f" * (MAX_BYTES - 9)),
    "a decimal of 16 MiB": lambda: b"\\x81\\xa1a" + extension(2, b"9" * (MAX_BYTES - 9)),
    "10,000 sets in sets": lambda: tuples(10_000, 8).replace(b"\\x08\\x91", b"\\x0a\\x91"),
}

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

for name, make in BOMBS.items():
    if os.fork() == 0:
        packed = make()
        assert len(packed) <= MAX_BYTES, len(packed)
        before, started = peak(), time.process_time()
        try:
            found = decode(packed)
        except DeserializationError as error:
            found = str(error)
        seconds, outcome = round(time.process_time() - started, 2), found if type(found) is str else "read"
        print(name, round((peak() - before) / 2**20), seconds, outcome, sep="|")
        sys.stdout.flush()
        os._exit(0)
    _, status = os.wait()
    assert status == 0, (name, status)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process's memory is read from /proc")
def test_bombs_are_refused_or_read_within_ten_times_the_limit() -> None:
    """In processes of their own: what a parser in C takes is seen by the system only, and one may crash."""
    done = subprocess.run([sys.executable, "-c", HARMFUL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    bombs = [line.split("|") for line in done.stdout.splitlines()]
    assert len(bombs) == 30
    for name, mebibytes, seconds, outcome in bombs:
        assert int(mebibytes) <= 10 * MAX_BYTES / 2**20, (name, mebibytes, outcome)
        assert float(seconds) < 20, (name, seconds, outcome)
