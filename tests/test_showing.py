"""Whatever can be stored can be shown, cut where that would be huge, and can't deceive whoever looks at it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest

from eventstore import DeserializationError, Event, InMemoryEventStore, SerializationError
from eventstore.cli.reading import as_json_line, as_line
from eventstore.codec import decode, encode
from eventstore.codec.showing import LINE, PAGE, SUMMARY, cleaned, cleaned_json, json_of, represented
from eventstore.codec.values import MAX_COLLISIONS

ATTACKS = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\x7f",
    "one\ntwo",
    "one\r",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\u2028",
]
DEEP: list[Any] = []
inner = DEEP
for _ in range(900):
    inner.append([])
    inner = inner[0]
HUGE = {
    "an integer": 10**5000,
    "a negative one": -(10**5000),
    "an integer in a set": {10**5000},
    "a key": {10**5000: 1},
    "a text": "x" * 20_000_000,
    "bytes": b"x" * 20_000_000,
    "a list": [0] * 100_000,
    "small maps": [{"a": 1}] * 100_000,
    "nested lists": DEEP,
    "nested dicts with other keys": {1: {2: {3: DEEP}}},
}


@dataclass
class Point:
    x: int
    y: Any = 0
    hidden: int = field(default=1, repr=False)


def stored(event: Event) -> list[Event]:
    """The event as it is read from a store."""
    store = InMemoryEventStore()
    store.append("s", [event], 0)
    return store.read("s")


@pytest.mark.parametrize("limits", [SUMMARY, LINE, PAGE], ids=["summary", "line", "page"])
@pytest.mark.parametrize("value", HUGE.values(), ids=list(HUGE))
def test_what_is_huge_is_cut_with_a_note(value: Any, limits: Any) -> None:
    text = json_of({"v": value}, limits)
    assert len(text) < 20 * (limits.values + limits.characters)
    assert "…" in text or "bytes>" in text
    json.loads(text)


@pytest.mark.parametrize("value", HUGE.values(), ids=list(HUGE))
def test_the_repr_of_an_event_is_cut_with_a_note(value: Any) -> None:
    text = repr(Event(event_type="Huge", data={"v": value}))
    assert text.startswith("Event(event_type='Huge', data={'v': ")
    assert len(text) < 40_000
    assert "…" in text


@pytest.mark.parametrize("value", HUGE.values(), ids=list(HUGE))
def test_read_shows_what_is_huge_as_a_line(value: Any) -> None:
    assert as_line(Event(event_type="Huge", data={"v": value})).isprintable()


def test_json_for_programs_keeps_integers_of_any_size() -> None:
    (event,) = stored(Event(event_type="E", data={"n": 10**5000}))
    assert json.loads(as_json_line(event))["data"] == {"n": {"$int": hex(10**5000)}}


@pytest.mark.parametrize(
    "value",
    [
        1,
        "x",
        [1, (2,), {3}, frozenset({4}), set(), ()],
        {"a": {1: b"2"}},
        Point(1, [Point(2)]),
        Decimal(1),
        UUID(int=1),
    ],
)
def test_what_is_of_a_usual_size_is_shown_as_it_is(value: Any) -> None:
    assert represented(value) == repr(value)


def test_what_is_left_of_a_cut_value_looks_as_ever() -> None:
    cut = represented({"p": Point(1, {2: (3,)}), "s": {4}, "f": frozenset({5}), "l": list(range(2000))})
    assert cut.startswith("{'p': Point(x=1, y={2: (3)}), 's': {4}, 'f': frozenset({5}), 'l': [0, 1, 2, ")
    assert cut.endswith(" more)]}")


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_a_terminal_would_obey_is_left(attack: str) -> None:
    (event,) = stored(Event(event_type=f"a{attack}", data={attack: attack, "set": {attack}}, metadata={"by": attack}))
    assert as_line(event).isprintable()
    line = as_json_line(event)
    assert line.isprintable()
    assert json.loads(line)["data"] == {attack: attack, "set": {"$set": [attack]}}
    assert json_of({attack: attack}, PAGE, indent=2).replace("\n", "").isprintable()
    assert cleaned(attack).isprintable()


def test_what_is_harmless_stays_as_it_is() -> None:
    text = "Zoë says: 日本 — “ok” \\n 🎉"
    assert cleaned(text) == text
    assert cleaned_json(json.dumps(text, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)
    assert json_of(timedelta(seconds=90.5), PAGE) == '"PT90.5S"'


# --- values with one hash ---------------------------------------------------------------------------------------------

PERIOD = 2**61 - 1
COLLIDING = [number * PERIOD for number in range(1, MAX_COLLISIONS + 3)]


@pytest.mark.parametrize(
    "value",
    [set(COLLIDING), frozenset(COLLIDING), dict.fromkeys(COLLIDING), {Decimal(number) for number in COLLIDING}],
    ids=["set", "frozenset", "dict", "decimals"],
)
def test_many_members_with_one_hash_are_refused_with_their_path(value: Any) -> None:
    with pytest.raises(SerializationError, match=r"^Event: a\[0\] can't be stored: more than 100 .* share a hash"):
        encode("Event", {"a": [value]})


def test_some_members_with_one_hash_come_back() -> None:
    value = {"set": set(COLLIDING[:-2]), "dict": dict.fromkeys(COLLIDING[:-2]), "many": set(range(10_000))}
    assert decode(encode("Event", value)) == value


def extension(number: int) -> msgpack.ExtType:
    return msgpack.ExtType(1, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


@pytest.mark.parametrize("code", [9, 10], ids=["set", "frozenset"])
def test_another_writers_sets_with_one_hash_are_refused(code: int) -> None:
    members = msgpack.packb([extension(number * PERIOD) for number in range(1, 50_000)])
    with pytest.raises(DeserializationError, match="share a hash"):
        decode(msgpack.packb({"a": msgpack.ExtType(code, members)}))


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "in a tuple"])
def test_another_writers_maps_with_one_hash_are_refused(wrapped: bool) -> None:
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(50_000)
    for number in range(1, 50_001):
        packer.pack(extension(number * PERIOD))
        packer.pack(None)
    packed: bytes = packer.bytes()
    if wrapped:
        packed = msgpack.packb(msgpack.ExtType(8, b"\x91" + packed))
    with pytest.raises(DeserializationError, match="share a hash"):
        decode(b"\x81\xa1a" + packed)
