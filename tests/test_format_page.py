"""docs/format.md says what the bytes are: its examples, columns and limits are compared with them."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import UUID

import msgpack
import pytest
from round_trips import shape

from eventstore import (
    Event,
    Snapshot,
    register_type,
    upcasts,
)
from eventstore.codec import MAX_BYTES, MAX_COPIED, MAX_DEPTH, MAX_VALUES, decode, encode
from eventstore.core.records import MAX_BATCH_BYTES, encode_events
from eventstore.core.snapshots import checksum_of
from eventstore.names import MAX_NAME_BYTES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "format.md"


def page_rows(pattern: str) -> list[tuple[str, ...]]:
    found = re.findall(pattern, PAGE.read_text(), re.MULTILINE)
    assert found
    return found


@partial(register_type, name="shop.Status")
class Status(enum.Enum):
    OPEN = 1


@partial(register_type, name="shop.Access")
class Access(enum.Flag):
    READ = 1
    WRITE = 2


@partial(register_type, name="shop.Money")
@dataclass
class Money:
    amount: Decimal
    currency: str


@partial(register_type, name="shop.Weight", revision=2)
@dataclass
class Weight:
    grams: int


@upcasts(Weight, from_revision=1)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return {"grams": data["kilograms"] * 1000}


NAMES = {
    each.__name__: each
    for each in (UUID, Decimal, date, datetime, time, timedelta, timezone, Status, Access, Money, Weight)
}
"""What the page writes examples with."""
EXAMPLES = page_rows(r"^\| (\d+) \| [^|]+ \| `([^`]+)` \| `([0-9a-f ]+)` \|$")


@pytest.mark.parametrize(("code", "value", "hexadecimal"), EXAMPLES, ids=[value for _, value, _ in EXAMPLES])
def test_the_page_on_the_format_gives_the_bytes_as_they_are(code: str, value: str, hexadecimal: str) -> None:
    packed = bytes.fromhex(hexadecimal)
    example = eval(value, dict(NAMES))  # noqa: S307 our own page
    assert encode("test", {"v": example}) == b"\x81\xa1v" + packed
    assert shape(decode(b"\x81\xa1v" + packed)["v"]) == shape(example)
    assert msgpack.unpackb(packed).code == int(code)


def test_the_page_on_the_format_has_every_extension_type() -> None:
    assert {int(code) for code, _, _ in EXAMPLES} == set(range(1, 13))


def test_the_page_on_the_format_names_every_column() -> None:
    for table in ("0001_events.sql", "0005_snapshots.sql"):
        body = re.search(
            r"CREATE TABLE \{schema\}\.\w+ \((.*?)^\)", (ROOT / "sql" / table).read_text(), re.MULTILINE | re.DOTALL
        )
        assert body is not None
        columns = re.findall(r"^    (\w+) (bigint|timestamp|integer|smallint|uuid|text|bytea)", body[1], re.MULTILINE)
        assert len(columns) > 6
        assert [name for name, _ in columns if f"| `{name}` |" not in PAGE.read_text()] == []


@pytest.mark.parametrize("limit", [MAX_BYTES, MAX_DEPTH, MAX_VALUES, MAX_COPIED, MAX_NAME_BYTES, MAX_BATCH_BYTES])
def test_the_page_on_the_format_gives_the_limits(limit: int) -> None:
    assert f"{limit:,}" in PAGE.read_text()


def test_the_page_on_the_format_shows_an_event_as_it_is_stored() -> None:
    event = Event(
        event_type="OrderShipped",
        data={"tracking_number": "1Z"},
        event_id=UUID("018cc251-f400-7000-8000-000000000001"),
        timestamp=datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        metadata={"user": "ann"},
    )
    event_ids, _, data, metadata, _, utc_offsets, revisions = encode_events([event])
    shown = dict(page_rows(r"^    (\w+) += (.+)$"))
    assert shown["event_id"] == str(UUID(bytes=event_ids[0]))
    assert shown["timestamp"] == "2024-01-01 00:00:00+00"
    assert shown["utc_offset"] == str(utc_offsets[0])
    assert shown["revision"] == str(revisions[0])
    assert bytes.fromhex(shown["data"]) == data[0]
    assert bytes.fromhex(shown["metadata"]) == metadata[0]


def test_the_page_on_the_format_shows_a_checksum_as_it_is() -> None:
    shown = dict(page_rows(r"^    (\w+) += (.+)$"))
    state = bytes.fromhex(shown["state"])
    assert decode(state) == {"attributes": {"items": ["a"]}, "initial": "00", "types": {}}
    event_id = UUID(shown["event_id"])
    snapshot = Snapshot(
        shown["aggregate_type"],
        shown["aggregate_id"],
        shown["class_schema"],
        int(shown["version"]),
        event_id,
        state,
        bytes.fromhex(shown["checksum"]),
    )
    assert checksum_of(snapshot) == snapshot.checksum
    digest = blake2b(digest_size=16)
    for part in ("aggregate_type", "aggregate_id", "class_schema", "version"):
        digest.update(len(shown[part]).to_bytes(8) + shown[part].encode())
    digest.update(len(event_id.bytes).to_bytes(8) + event_id.bytes)
    digest.update(len(state).to_bytes(8) + state)
    assert digest.digest() == snapshot.checksum
