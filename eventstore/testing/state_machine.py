"""Stores beside each other and beside a model of dicts and lists: whatever is done, all say the same.

::

    class MyMachine(StoreMachine):
        def make_stores(self):
            return {"mine": MyStore(), "memory": InMemoryEventStore()}

    TestMyStore = MyMachine.TestCase
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias
from uuid import UUID

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from eventstore.core.forgetting import SUBJECTS, SubjectForgotten
from eventstore.errors import ConcurrencyError, EventAlreadyStored, EventStoreError, ForgottenSubject, StreamRetired
from eventstore.event import Event
from eventstore.store import EventStore, Snapshot, SnapshotStore
from eventstore.testing.contract.capabilities import Capabilities
from eventstore.testing.contract.personal import ContractMemberNamed
from eventstore.tombstone import Tombstone
from eventstore.versions import ExpectedVersion

Outcome: TypeAlias = tuple[object, ...]
"""What an operation gave: ("returned", value), or ("raised", type, what it carries)."""

STREAMS = ["Order-1", "Order-2", "Invoice-1", "Order", "x"]
TYPES = ["Created", "Shipped", "Closed"]
WRONG_NAMES: list[Any] = ["", "a\0b", "x" * 256, "\ud800", None, 7]
WRONG_NUMBERS: list[Any] = [-1, 2**63, 1.5, "1", None, True]

streams = st.sampled_from(STREAMS)
subjects = st.sampled_from(["ann", "bob", "3"])
small = st.integers(0, 12)
modes = st.sampled_from([ExpectedVersion.ANY, ExpectedVersion.STREAM_EXISTS, ExpectedVersion.NO_STREAM])
values = st.one_of(
    st.integers(), st.text(max_size=5), st.decimals(allow_nan=False), st.tuples(st.integers(), st.binary(max_size=4))
)
batches = st.lists(
    st.builds(
        Event,
        event_id=st.uuids(version=4),
        event_type=st.sampled_from(TYPES),
        data=st.dictionaries(st.text(max_size=4), values, max_size=2),
    ),
    max_size=4,
)


@dataclass(frozen=True)
class Stored:
    """An event of the model, in the order of the log."""

    stream_id: str
    version: int
    event: Event


class Model:
    """What the stores hold: a list."""

    def __init__(self) -> None:
        self.log: list[Stored] = []
        self.closed: dict[str, int] = {}
        """The version of the newest closing event of each closed stream."""

    def stream(self, stream_id: str) -> list[Stored]:
        return [stored for stored in self.log if stored.stream_id == stream_id]

    def append(self, stream_id: str, batch: Sequence[Event], expected: int) -> int:
        """The promise of EventStore.append, in the plainest words."""
        stream = self.stream(stream_id)
        ids = [stored.event.event_id for stored in stream]
        wanted = [event.event_id for event in batch]
        last = len(stream)
        there = min((ids.index(each) for each in wanted if each in ids), default=None)
        first = expected if expected >= 0 else there
        if first is not None and wanted and ids[first : first + len(wanted)] == wanted:
            return first + len(wanted)
        if stream and isinstance(stream[-1].event, Tombstone):
            raise StreamRetired(stream_id, last, position=0)
        if there is not None:
            raise EventAlreadyStored(stream_id, there + 1, position=0)
        if (expected >= 0 and expected != last) or (expected == ExpectedVersion.STREAM_EXISTS and not last):
            raise ConcurrencyError(stream_id, expected, last)
        self.log += [Stored(stream_id, version, event) for version, event in enumerate(batch, last + 1)]
        return last + len(batch)

    def append_many(self, appends: Sequence[tuple[str, Sequence[Event], int]]) -> dict[str, int]:
        """All of them, or none."""
        before = self.log[:]
        try:
            return {stream_id: self.append(stream_id, batch, expected) for stream_id, batch, expected in appends}
        except EventStoreError:
            self.log = before
            raise

    def close(self, stream_id: str, event: Event, expected: int) -> int:
        """The promise of EventStore.close_stream."""
        version = self.append(stream_id, [event], expected)
        self.closed[stream_id] = max(version, self.closed.get(stream_id, 0))
        return version


def is_mark(event: Event) -> bool:
    """Whether an event closes or retires a stream."""
    return isinstance(event, Tombstone) or "_closing" in event.__dict__


class StoreMachine(RuleBasedStateMachine):
    """Subclass it with ``make_stores``; ``make_snapshot_stores`` adds theirs."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    """What the stores can do; what one of them can't is left out of the histories."""

    @property
    def has_transactions(self) -> bool:
        """Whether transactions are opened, beside which others append."""
        able = self.capabilities
        return able.transactions and able.concurrency and able.global_order

    def make_stores(self) -> dict[str, EventStore]:
        """Empty stores by name. They are compared with each other and with the model."""
        raise NotImplementedError

    def make_snapshot_stores(self) -> dict[str, SnapshotStore]:
        """Empty snapshot stores by name, if they are to be compared as well."""
        return {}

    def __init__(self) -> None:
        super().__init__()
        self.stores = self.make_stores()
        self.snapshot_stores = self.make_snapshot_stores()
        self.snapshots: dict[tuple[str, str], Snapshot] = {}
        self.model = Model()
        self.batches: list[tuple[str, list[Event], int]] = []
        self.open: dict[str, EventStore] = {}
        self.exits = ExitStack()
        self.draft = Model()
        self.held: set[str] = set()
        self.forgotten: set[str] = set()

    def teardown(self) -> None:
        self.exits.close()

    # --- appending --------------------------------------------------------------------------------------------------

    @rule(stream_id=streams, batch=batches, expected=modes)
    def append_with_a_mode(self, stream_id: str, batch: list[Event], expected: int) -> None:
        self.append(stream_id, batch, expected)

    @rule(stream_id=streams, batch=batches, off=st.sampled_from([0, 0, 0, 0, 1, -1, 5]))
    def append_at_a_version(self, stream_id: str, batch: list[Event], off: int) -> None:
        self.append(stream_id, batch, max(len(self.model.stream(stream_id)) + off, 0))

    @precondition(lambda self: self.batches and self.capabilities.idempotency)
    @rule(data=st.data(), mode=st.one_of(st.none(), modes), more=batches)
    def append_again(self, data: st.DataObject, mode: int | None, more: list[Event]) -> None:
        """What was appended before, or a part of it, or it with others: in the same way or another."""
        stream_id, batch, expected = data.draw(st.sampled_from(self.batches))
        if any(is_mark(event) for event in batch):
            more = []  # What closes or retires a stream is appended alone.
        part = data.draw(st.sampled_from([batch, batch, batch[:1], batch[1:], [*batch, *more], batch[::-1]]))
        self.append(stream_id, part, expected if mode is None else mode)

    @precondition(lambda self: self.capabilities.closing)
    @rule(stream_id=streams, off=st.sampled_from([0, 0, 0, 1, -1]))
    def close(self, stream_id: str, off: int) -> None:
        assume(stream_id not in self.held)
        expected = max(len(self.model.stream(stream_id)) + off, 1)
        event = Event(event_type="Closing")
        expectation = outcome(lambda: self.model.close(stream_id, event, expected))
        self.agree(self.stores, lambda store: store.close_stream(stream_id, event, expected), expectation)
        if self.open and expectation[0] == "returned":
            outcome(lambda: self.draft.close(stream_id, event, expected))

    @precondition(lambda self: self.capabilities.closing)
    @rule(stream_id=st.sampled_from(STREAMS[2:]), reason=st.sampled_from("ab"))
    def retire(self, stream_id: str, reason: str) -> None:
        self.append(stream_id, [Tombstone(reason=reason)], ExpectedVersion.STREAM_EXISTS)

    @precondition(lambda self: self.capabilities.closing)
    @rule(stream_id=streams, start=small, limit=st.integers(1, 5))
    def load(self, stream_id: str, start: int, limit: int) -> None:
        """What repositories read of a stream."""
        first = max(start + 1, self.model.closed.get(stream_id, 0))
        page = [s for s in self.model.stream(stream_id) if s.version >= first][:limit]
        expected: Outcome = ("returned", [(s.stream_id, s.version, s.event) for s in page])
        if page and isinstance(page[-1].event, Tombstone):
            facts = {"stream_id": stream_id, "version": page[-1].version, "reason": page[-1].event.reason}
            expected = ("raised", StreamRetired, facts)
        self.agree(self.stores, lambda store: shown(store._read_page(stream_id, start, limit)), expected)

    def append(self, stream_id: str, batch: list[Event], expected: int) -> None:
        assume(stream_id not in self.held)  # It would wait for the open transaction, for ever.
        self.batches.append((stream_id, batch, expected))
        expectation = outcome(lambda: self.model.append(stream_id, batch, expected))
        self.agree(self.stores, lambda store: store.append(stream_id, batch, expected), expectation)
        if self.open and expectation[0] == "returned":
            outcome(lambda: self.draft.append(stream_id, batch, expected))

    @precondition(lambda self: self.capabilities.transactions)
    @rule(data=st.data(), names=st.lists(streams, unique=True, max_size=4))
    def append_many(self, data: st.DataObject, names: list[str]) -> None:
        """New events, and those of a batch before, at versions that are right or not."""
        assume(self.held.isdisjoint(names))
        known = [each for each in self.batches if not any(is_mark(event) for event in each[1])]
        before = st.sampled_from(known) if known and self.capabilities.idempotency else st.nothing()
        appends: list[tuple[str, list[Event], int]] = []
        for name in names:
            last = len(self.model.stream(name))
            expected = data.draw(st.one_of(st.just(last), st.just(last), modes, st.just(last + 1)))
            appends.append(data.draw(st.one_of(st.tuples(st.just(name), batches, st.just(expected)), before)))
        ids = [event.event_id for _, batch, _ in appends for event in batch]
        assume(len({name for name, _, _ in appends} - self.held) == len(names) and len(set(ids)) == len(ids))
        self.batches += appends
        expectation = outcome(lambda: self.model.append_many(appends))
        self.agree(self.stores, lambda store: store.append_many(appends), expectation)
        if self.open and expectation[0] == "returned":
            outcome(lambda: self.draft.append_many(appends))

    # --- reading ----------------------------------------------------------------------------------------------------

    @rule(
        stream_id=streams,
        start=small,
        end=st.one_of(st.none(), small),
        backwards=st.booleans(),
        limit=st.one_of(st.none(), small),
    )
    def read(self, stream_id: str, start: int, end: int | None, limit: int | None, *, backwards: bool) -> None:
        expected = [s for s in self.model.stream(stream_id) if start < s.version <= (1000 if end is None else end)]
        expected = (expected[::-1] if backwards else expected)[:limit]
        self.agree(
            self.stores,
            lambda store: shown(store.read(stream_id, start, end, backwards=backwards, limit=limit)),
            ("returned", [(s.stream_id, s.version, comparable(s.event)) for s in expected]),
        )

    @precondition(lambda self: not self.open and self.capabilities.global_order)
    @rule(
        start=small,
        length=st.one_of(st.none(), small),
        batch_size=st.integers(1, 5),
        types=st.one_of(st.none(), st.lists(st.sampled_from(TYPES), max_size=2)),
        category=st.sampled_from([None, "Order", "Invoice", "Other"]),
        backwards=st.booleans(),
        limit=st.one_of(st.none(), small),
    )
    def read_all(
        self,
        start: int,
        length: int | None,
        batch_size: int,
        types: list[str] | None,
        category: str | None,
        *,
        limit: int | None,
        backwards: bool,
    ) -> None:
        chosen = self.model.log[start : None if length is None else start + length]
        expected = [
            (s.stream_id, s.version, comparable(s.event))
            for s in chosen
            if (types is None or s.event.event_type in types)
            and (category is None or s.stream_id.startswith(f"{category}-"))
        ]
        expected = (expected[::-1] if backwards else expected)[:limit]

        def read_all(store: EventStore) -> object:
            positions = [0, *(event.position for event in store.read_all())]
            assert positions == sorted(set(positions))
            first = positions[min(start, len(positions) - 1)]
            last = None if length is None else positions[min(start + length, len(positions) - 1)]
            found = store.read_all(
                first,
                batch_size,
                to_position=last,
                event_types=types,
                categories=category,
                backwards=backwards,
                limit=limit,
            )
            return shown(found)

        self.agree(self.stores, read_all, ("returned", expected))

    @precondition(lambda self: self.open)
    @rule(batch_size=st.integers(1, 5))
    def read_all_beside_an_open_transaction(self, batch_size: int) -> None:
        """How far the log can be read then follows from the positions drawn; the stores must agree on it."""
        self.agree(self.stores, lambda store: shown(store.read_all(batch_size=batch_size)))

    # --- transactions -----------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.open and self.has_transactions)
    @rule()
    def begin(self) -> None:
        self.open = {name: self.exits.enter_context(store.transaction()) for name, store in self.stores.items()}
        self.draft.log = list(self.model.log)
        self.own: list[Stored] = []

    @precondition(lambda self: self.open)
    @rule(stream_id=streams, batch=batches, off=st.sampled_from([0, 0, 0, 1]), mode=st.one_of(st.none(), modes))
    def append_in_it(self, stream_id: str, batch: list[Event], off: int, mode: int | None) -> None:
        self.held.add(stream_id)
        expected = len(self.draft.stream(stream_id)) + off if mode is None else mode
        before = len(self.draft.log)
        expectation = outcome(lambda: self.draft.append(stream_id, batch, expected))
        self.own += self.draft.log[before:]
        self.agree(self.open, lambda store: store.append(stream_id, batch, expected), expectation)
        if len(self.draft.log) > before:
            self.batches.append((stream_id, batch, expected))

    @precondition(lambda self: self.open)
    @rule(stream_id=streams)
    def read_in_it(self, stream_id: str) -> None:
        expected = [(s.stream_id, s.version, comparable(s.event)) for s in self.draft.stream(stream_id)]
        self.agree(self.open, lambda store: shown(store.read(stream_id)), ("returned", expected))

    @precondition(lambda self: self.open)
    @rule(commits=st.booleans())
    def end(self, *, commits: bool) -> None:
        class RolledBack(Exception):
            pass

        if commits:
            self.exits.close()
            positions = {event.event_id: event.position for event in next(iter(self.stores.values())).read_all()}
            self.model.log += self.own
            self.model.log.sort(key=lambda stored: positions[stored.event.event_id])
        else:
            try:
                with self.exits:
                    raise RolledBack
            except RolledBack:
                pass
        self.exits = ExitStack()
        self.open = {}
        self.held.clear()

    # --- personal data ----------------------------------------------------------------------------------------------

    @property
    def has_keys(self) -> bool:
        """Whether personal data is recorded and forgotten; not beside a transaction, which would hold both up."""
        return not self.open and all(store.subject_keys is not None for store in self.stores.values())

    @precondition(lambda self: self.has_keys)
    @rule(stream_id=streams, who=subjects, name=st.text(max_size=5))
    def append_personal(self, stream_id: str, who: str, name: str) -> None:
        event = ContractMemberNamed(member=who, name=name)
        expectation: Outcome = ("raised", ForgottenSubject, {"subject": who})
        if who not in self.forgotten:
            expectation = outcome(lambda: self.model.append(stream_id, [event], ExpectedVersion.ANY))
        self.agree(self.stores, lambda store: store.append(stream_id, [event], ExpectedVersion.ANY), expectation)

    @precondition(lambda self: self.has_keys)
    @rule(who=subjects)
    def forget(self, who: str) -> None:
        self.agree(self.stores, lambda store: store.forget(who) == 1, ("returned", True))
        if who not in self.forgotten:
            self.forgotten.add(who)
            (event,) = next(iter(self.stores.values())).read(f"{SUBJECTS}{who}")
            self.model.append(f"{SUBJECTS}{who}", [event], 0)
            self.model.log = [dataclasses.replace(s, event=erased(s.event, who)) for s in self.model.log]

    # --- what can't be ----------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(WRONG_NAMES), number=st.sampled_from(WRONG_NUMBERS), which=st.integers(0, 6))
    def use_wrongly(self, name: Any, number: Any, which: int) -> None:
        batch = [Event(event_type="T")]
        # Nobody writes to this stream: an append to one that the caller's open transaction has written to may be
        # refused for that reason first.
        stream_id = "wrongly"
        uses: list[Callable[[EventStore], object]] = [
            lambda store: store.append(name, batch, 0),
            lambda store: store.append(stream_id, batch, number),
            lambda store: store.append(stream_id, batch * 2, 0),
            lambda store: store.append(stream_id, [Event(event_type="T", data={"a": object})], 0),
            lambda store: store.read(name),
            lambda store: store.read(stream_id, number),
            lambda store: store.read_all(number),
        ]
        outcomes = self.agree(self.stores, uses[which])
        assert outcomes[0] == "raised", outcomes

    # --- snapshots --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.snapshot_stores)
    @rule(key=st.tuples(st.sampled_from("ab"), st.sampled_from("12")), version=small, state=st.binary(max_size=5))
    def save_snapshot(self, key: tuple[str, str], version: int, state: bytes) -> None:
        snapshot = Snapshot(*key, "schema", version + 1, UUID(int=version), state, b"checksum")
        self.snapshots[key] = snapshot
        self.agree(self.snapshot_stores, lambda store: store.save(snapshot), ("returned", None))

    @precondition(lambda self: self.snapshot_stores)
    @rule(key=st.tuples(st.sampled_from("ab"), st.sampled_from("12")), forget=st.booleans())
    def load_snapshot(self, key: tuple[str, str], *, forget: bool) -> None:
        expected = ("returned", self.snapshots.get(key))
        self.agree(self.snapshot_stores, lambda store: store.load(*key, "schema"), expected)
        if forget:
            self.snapshots.pop(key, None)
            self.agree(self.snapshot_stores, lambda store: store.delete(*key), ("returned", None))

    def agree(self, stores: dict[str, Any], use: Callable[[Any], object], expected: Outcome | None = None) -> Outcome:
        """Use all stores in one way; they must all give what the model does, or what the first one does."""
        for name, store in stores.items():
            found = outcome(partial(use, store))
            expected = found if expected is None else expected
            assert found == expected, f"{name}: {found!r} instead of {expected!r}"
        assert expected is not None
        return expected


def outcome(use: Callable[[], object]) -> Outcome:
    """What a use gives, so that it can be compared: a result, or an error with all that it carries."""
    try:
        return ("returned", use())
    except EventStoreError as error:
        facts = {name: fact for name, fact in vars(error).items() if name != "position"}  # The model has none.
        return ("raised", type(error), facts)


def shown(events: Any) -> list[tuple[str, int, object]]:
    """Events as they were read, with their places."""
    return [(event.stream_id, event.version, comparable(event)) for event in events]


def comparable(event: Event) -> object:
    """An event, or what it says if each store makes one of its own."""
    return ("forgotten", event.subject) if isinstance(event, SubjectForgotten) else event


def erased(event: Event, subject: str) -> Event:
    """An event as it reads once a subject was forgotten."""
    if not isinstance(event, ContractMemberNamed) or event.member != subject:
        return event
    return ContractMemberNamed(
        member=subject, name="(erased)", event_id=event.event_id, timestamp=event.timestamp, metadata=event.metadata
    )
