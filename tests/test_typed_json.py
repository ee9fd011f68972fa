"""Stored values as JSON that loses nothing: every value comes back as the same bytes."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import codec
from eventstore.codec.record import Record
from eventstore.codec.typed_json import from_json, to_json
from eventstore.core.lines import json_line, json_object
from eventstore.errors import DeserializationError, InvalidArgument

ZONE = timezone(timedelta(hours=1))

SHOWN: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (7, 7),
    (2**53, {"$int": "9007199254740992"}),
    (-(2**63), {"$int": "-9223372036854775808"}),
    (2**64, {"$int": "0x10000000000000000"}),
    (-(2**70), {"$int": "-0x400000000000000000"}),
    (0.1, 0.1),
    (1.0, 1.0),
    (-0.0, -0.0),
    (math.inf, {"$float": "inf"}),
    (-math.inf, {"$float": "-inf"}),
    (math.nan, {"$float": "nan"}),
    ("Zoë\n\0", "Zoë\n\0"),
    (b"\xff\x00", {"$bytes": "/wA="}),
    ([1, [2]], [1, [2]]),
    ((1, (2,)), {"$tuple": [1, {"$tuple": [2]}]}),
    ({3}, {"$set": [3]}),
    (frozenset({"a"}), {"$frozenset": ["a"]}),
    ({"a": {"b": {}}}, {"a": {"b": {}}}),
    ({"$uuid": "no"}, {"$map": [["$uuid", "no"]]}),
    ({1: "one", (2,): 3}, {"$map": [[1, "one"], [{"$tuple": [2]}, 3]]}),
    (UUID(int=1), {"$uuid": "00000000-0000-0000-0000-000000000001"}),
    (Decimal("12.50"), {"$decimal": "12.50"}),
    (Decimal("sNaN"), {"$decimal": "sNaN"}),
    (datetime(2024, 5, 1, 12, tzinfo=UTC), {"$datetime": "2024-05-01T12:00:00+00:00"}),
    (datetime(2024, 5, 1, 12, 0, 0, 5), {"$datetime": "2024-05-01T12:00:00.000005"}),  # noqa: DTZ001 without a zone
    (datetime(2024, 10, 27, 2, tzinfo=ZONE, fold=1), {"$datetime": ["2024-10-27T02:00:00+01:00", 1]}),
    (date(1, 1, 1), {"$date": "0001-01-01"}),
    (time(12, 30, tzinfo=ZONE), {"$time": "12:30:00+01:00"}),
    (time(2, fold=1), {"$time": ["02:00:00", 1]}),
    (timedelta(days=1, microseconds=500_000), {"$timedelta": "PT86400.5S"}),
    (-timedelta(microseconds=1), {"$timedelta": "-PT0.000001S"}),
    (timedelta(), {"$timedelta": "PT0S"}),
]


@pytest.mark.parametrize(("value", "shown"), SHOWN, ids=lambda value: repr(value)[:40])
def test_a_value_is_shown_with_its_type_and_comes_back_as_the_same_bytes(value: Any, shown: Any) -> None:
    packed = codec.encode("test", {"value": value})
    assert to_json(packed) == {"value": shown}
    assert type(to_json(packed)["value"]) is type(shown)
    assert from_json(json.loads(json.dumps(to_json(packed)))) == packed


HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.dates(),
    st.timedeltas(),
    st.datetimes(timezones=st.none() | st.just(ZONE) | st.just(UTC), allow_imaginary=False),
    st.times(timezones=st.none() | st.just(ZONE)),
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.text() | st.just("$tuple"), inner),
        st.dictionaries(HASHABLE, inner),
        st.frozensets(HASHABLE),
    ),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=3))
def test_every_value_that_can_be_stored_comes_back_as_the_same_bytes(value: dict[str, Any]) -> None:
    packed = codec.encode("test", value)
    text = json.dumps(to_json(packed), allow_nan=False)
    assert from_json(json.loads(text)) == packed


def test_classes_are_shown_without_being_known() -> None:
    enum = msgpack.ExtType(11, msgpack.packb(["gone.Color", "RED"]))
    money = msgpack.ExtType(12, msgpack.packb(["gone.Money", {"amount": 1, "$x": 2}, 3]))
    packed = msgpack.packb({"color": enum, "money": money})
    assert to_json(packed) == {
        "color": {"$enum": ["gone.Color", "RED"]},
        "money": {"$dataclass": ["gone.Money", {"$map": [["amount", 1], ["$x", 2]]}, 3]},
    }
    assert from_json(to_json(packed)) == packed


def test_an_extension_that_nobody_knows_or_that_python_has_no_value_for_is_shown_as_its_bytes() -> None:
    packed = msgpack.packb({"new": msgpack.ExtType(99, b"ab"), "late": msgpack.ExtType(5, b"\x7f\xff\xff\xff")})
    assert to_json(packed) == {"new": {"$extension": [99, "YWI="]}, "late": {"$extension": [5, "f////w=="]}}
    assert from_json(to_json(packed)) == packed


@pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x81", b"\x91" * 2000 + b"\x01", b"\x81\xa1a\xdd\xff\xff\xff\xff"])
def test_damaged_bytes_are_one_error(packed: bytes) -> None:
    with pytest.raises(DeserializationError):
        to_json(packed)


@pytest.mark.parametrize("value", [{"$what": 1}, {"$uuid": "no"}, {"$bytes": "é"}, {"$extension": [1]}, object()])
def test_json_that_stands_for_no_value_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="says what is"):
        from_json(value)


def test_an_event_that_can_not_be_read_is_shown_as_bytes() -> None:
    row = Record("Order-1", 1, 2, UUID(int=3).bytes, "T", b"\xc1", b"\x80", (2**62).to_bytes(8), 0, 1)
    assert json_object(row) == {
        "event_id": str(UUID(int=3)),
        "stream_id": "Order-1",
        "version": 1,
        "position": 2,
        "event_type": "T",
        "revision": 1,
        "timestamp": {"$undecodable": [2**62, 0]},
        "data": {"$undecodable": "wQ=="},
        "metadata": {},
    }
    assert "\n" not in json_line(row)
