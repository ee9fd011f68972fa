"""Copies of values: equal, and of nothing that can change the same object."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import Event
from eventstore.codec.values import MICROSECOND, copied, uuid_of
from eventstore.event import detached


@dataclass
class ValuesBasket:
    items: list[Any] = field(default_factory=list[Any])


PLAIN = st.one_of(
    st.none(), st.integers(), st.text(), st.uuids(), st.datetimes(timezones=st.just(UTC)), st.decimals(allow_nan=False)
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(st.text(), inner),
        st.tuples(inner, inner),
        st.sets(st.integers()),
        st.builds(ValuesBasket, st.lists(inner)),
        st.builds(bytearray, st.binary()),
    ),
)


def changeable(value: Any) -> Iterator[int]:
    """Where the objects are that could be changed."""
    if isinstance(value, list | dict | set | bytearray | ValuesBasket):
        yield id(value)
    parts: Any = ()
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    elif isinstance(value, ValuesBasket):
        parts = [value.items]
    for part in parts:
        yield from changeable(part)


@given(VALUES)
def test_a_copy_is_equal_and_shares_nothing_that_can_change(value: Any) -> None:
    made = copied(value, {})
    assert made == value
    assert set(changeable(made)).isdisjoint(changeable(value))


@given(PLAIN)
def test_what_never_changes_is_not_copied(value: Any) -> None:
    assert copied(value, {}) is value


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"in": value}], ids=["list", "dict"])
def test_what_stands_inside_itself_does_so_in_its_copy(wrap: Any) -> None:
    value: list[Any] = []
    value += [wrap(value), wrap(value)]
    made = copied(value, {})
    assert made is not value
    assert made[0] == wrap(made)
    assert made[1] is not made[0]


def test_what_stands_in_many_places_is_copied_once() -> None:
    value: list[Any] = []
    for _ in range(100):
        value = [value, value, ValuesBasket(value)]
    made = copied(value, {})
    assert made[0] is made[1] is made[2].items


def test_a_detached_event_stays_as_it_was() -> None:
    event = Event(event_type="Packed", data={"items": [{"sku": "teapot"}]}, metadata={"by": ["ann"]})
    kept = detached(event)
    assert kept == event
    event.data["items"][0]["sku"] = "kettle"
    event.metadata["by"].append("bob")
    assert (kept.data, kept.metadata) == ({"items": [{"sku": "teapot"}]}, {"by": ["ann"]})
    assert (type(kept), kept.event_id) == (Event, event.event_id)


@given(st.uuids())
def test_a_uuid_made_of_its_number_is_one_like_any_other(value: UUID) -> None:
    made = uuid_of(value.int)
    assert (type(made), made, hash(made), str(made)) == (UUID, value, hash(value), str(value))
    assert (made.is_safe, pickle.loads(pickle.dumps(made))) == (value.is_safe, value)  # noqa: S301 our own
    assert (made.bytes, made.version, copy.deepcopy(made)) == (value.bytes, value.version, value)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_number_of_microseconds_is_exact(number: int) -> None:
    assert number * MICROSECOND == timedelta(microseconds=number)
    assert number * MICROSECOND // MICROSECOND == number
