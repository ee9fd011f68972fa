"""What is left of a forgotten subject: nothing in dumps, tables, logs, snapshots or errors, whatever crashed."""

from __future__ import annotations

import logging
import os
import random
import re
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import pytest
from conftest import wanted_binaries
from keyed_stores import KEY_ENCRYPTION_KEY
from psycopg.conninfo import make_conninfo
from test_secrets import everything_of
from waiting import PATIENCE, eventually

from eventstore import (
    Aggregate,
    DeserializationError,
    Event,
    EventStoreError,
    ExpectedVersion,
    ForgottenSubject,
    InMemoryEventStore,
    InvalidOperation,
    PostgresEventStore,
    PostgresSnapshotStore,
    Repository,
    StoreUnavailable,
    Subscription,
    handles,
)
from eventstore.postgres import migrate, stores
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.postgres.embedded.binaries import find_binaries
from eventstore.privacy import (
    InMemorySubjectKeys,
    Personal,
    PostgresSubjectKeys,
    Subject,
    SubjectForgotten,
    migrate_subject_keys,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from keyed_stores import Keyed

MARKER = "mArKeR-7f3a"
"""What is searched for, byte by byte."""


class ForgettingNamed(Event, personal_metadata={"ip": Personal()}):
    who: Annotated[int, Subject]
    name: Annotated[str, Personal("(erased)")]


class ForgettingPerson(Aggregate["ForgettingPerson"]):
    name: Annotated[str, Personal("")] = ""
    changes: int = 0

    def rename(self, who: int, name: str) -> None:
        self._record(ForgettingNamed(who=who, name=name, metadata={"ip": f"{MARKER} ip"}))

    @handles(ForgettingNamed)
    def _renamed(self, event: ForgettingNamed) -> None:
        self.name = event.name
        self.changes += 1


def named(who: int = 7) -> ForgettingNamed:
    return ForgettingNamed(who=who, name=f"{MARKER} name", metadata={"ip": f"{MARKER} ip"})


class Setup:
    """A store, its keys, and a second process's store that remembers nothing."""

    def __init__(self, dsn: str, schema: str, keys_dsn: str, keys_schema: str) -> None:
        self.keys = PostgresSubjectKeys.connect(keys_dsn, wrap=KEY_ENCRYPTION_KEY, schema=keys_schema)
        self.store = PostgresEventStore.connect(dsn, schema, subject_keys=self.keys)
        self.snapshots = PostgresSnapshotStore(self.store.connections, schema)

    def close(self) -> None:
        self.store.close()
        self.keys.close()


@contextmanager
def set_up(dsn: str, schema: str, keys_dsn: str, keys_schema: str) -> Generator[Setup, None, None]:
    setup = Setup(dsn, schema, keys_dsn, keys_schema)
    yield setup
    setup.close()


@pytest.fixture(params=["joined", "elsewhere"])
def where(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The database and the schema of the keys."""
    if request.param == "joined":
        return request.getfixturevalue("dsn"), request.getfixturevalue("keys_schema")
    return request.getfixturevalue("other_dsn"), request.getfixturevalue("other_keys_schema")


class TestCrashes:
    """A process that dies in ``forget``, between any two requests to a server, or in the middle of one."""

    @staticmethod
    def requests_of_forget(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> int:
        asked: list[object] = []
        with monkeypatch.context() as patched:
            _at_each_request(patched, asked.append)
            setup.store.forget(8)
        return len(asked)

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
    def test_a_subject_is_never_reported_forgotten_and_still_readable(
        self, dsn: str, schema: str, where: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with set_up(dsn, schema, *where) as setup:
            setup.store.append("Person-8", [named(8)], 0)
            count = self.requests_of_forget(setup, monkeypatch)
        assert count >= 6
        outcomes: set[tuple[bool, bool]] = set()
        for number in range(count + 1):
            who = 100 + number
            with set_up(dsn, schema, *where) as setup:
                setup.store.append(f"Person-{who}", [named(who)], 0)
            self._die_in_forget(who, number, (dsn, schema, *where), monkeypatch)
            with set_up(dsn, schema, *where) as setup:
                (event,) = setup.store.read(f"Person-{who}")
                reported = [*setup.store.read_all(event_types=SubjectForgotten)]
                is_reported = any(each.subject == str(who) for each in reported)
                outcomes.add((is_reported, event.sealed != ()))
                if is_reported:
                    assert setup.store.read(f"Person-{who}")[0].sealed == ("name", "metadata.ip")
                else:
                    assert setup.store.read(f"Person-{who}") == [event]
                    assert event.name == f"{MARKER} name"
                setup.store.forget(who)
                assert setup.store.read(f"Person-{who}")[0].sealed
        assert outcomes >= {(False, False), (True, True)}

    @staticmethod
    def _die_in_forget(who: int, number: int, places: tuple[str, str, str, str], patch: pytest.MonkeyPatch) -> None:
        """Forget in a child, which ends before so many requests were sent."""
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        try:
            asked: list[object] = []

            def count(request: object) -> None:
                if len(asked) == number:
                    os._exit(9)
                asked.append(request)

            _at_each_request(patch, count)
            Setup(*places).store.forget(who)
        finally:
            os._exit(0)

    def test_an_error_of_the_key_store_after_the_commit_is_no_acknowledgement(
        self, dsn: str, schema: str, other_dsn: str, other_keys_schema: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with set_up(dsn, schema, other_dsn, other_keys_schema) as setup:
            setup.store.append("Person-7", [named()], 0)

            def fail(*_: object) -> None:
                raise StoreUnavailable("no connection to the server")

            with monkeypatch.context() as patched:
                patched.setattr(setup.keys, "destroy", fail)
                with pytest.raises(StoreUnavailable, match="not destroyed yet"):
                    setup.store.forget(7)
                with pytest.raises(StoreUnavailable, match="not destroyed yet"):
                    list(setup.store.read_all())
            assert setup.store.forget(7).repeated
            assert setup.store.read("Person-7")[0].sealed


def _at_each_request(monkeypatch: pytest.MonkeyPatch, call: Callable[[object], object]) -> None:
    """Call before each request that is sent to a server."""
    send = stores._execute

    def execute(connection: Any, request: Any, statements: Any) -> Any:
        call(request)
        return send(connection, request, statements)

    monkeypatch.setattr(stores, "_execute", execute)


class TestTransactionsOfYourOwn:
    def test_keys_in_the_same_database_are_destroyed_with_your_commit(
        self, dsn: str, schema: str, keys_schema: str
    ) -> None:
        with set_up(dsn, schema, dsn, keys_schema) as setup:
            setup.store.append("Person-7", [named()], 0)
            with psycopg.connect(dsn) as connection:
                setup.store.bind(connection).forget(7)
                connection.rollback()
                assert setup.store.read("Person-7")[0].sealed == ()
                setup.store.bind(connection).forget(7)
            setup.keys.cache.drop("7")
            assert setup.store.read("Person-7")[0].sealed

    def test_keys_elsewhere_are_refused_there(
        self, dsn: str, schema: str, other_dsn: str, other_keys_schema: str
    ) -> None:
        with set_up(dsn, schema, other_dsn, other_keys_schema) as setup:
            setup.store.append("Person-7", [named()], 0)
            with psycopg.connect(dsn) as connection:
                with pytest.raises(InvalidOperation, match="does not see its commit"):
                    setup.store.bind(connection).forget(7)
                setup.store.bind(connection).append("Person-7", [named()], 1)
            assert [event.sealed for event in setup.store.read("Person-7")] == [(), ()]

    def test_keys_of_the_same_database_that_the_role_may_not_destroy_count_as_elsewhere(
        self, dsn: str, schema: str, keys_schema: str
    ) -> None:
        role = f"role_of_{schema}"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {role}")
            connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
            connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
            connection.execute(f"GRANT ALL ON ALL FUNCTIONS IN SCHEMA {schema} TO {role}")
        try:
            as_role = make_conninfo(dsn, options=f"-c role={role}")
            with set_up(as_role, schema, dsn, keys_schema) as setup:
                setup.store.append("Person-7", [named()], 0)
                setup.store.forget(7)
                assert setup.store.read("Person-7")[0].sealed
        finally:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


class TestRaces:
    def test_forgetting_waits_for_an_append_of_the_subject_that_is_not_committed(self, keyed: Keyed) -> None:
        forgotten: list[Any] = []
        thread = threading.Thread(target=lambda: forgotten.append(keyed.store.forget(7)))
        with keyed.store.transaction() as transaction:
            transaction.append("Person-7", [named()], 0)
            thread.start()
            thread.join(0.1)
            assert not forgotten
        thread.join(PATIENCE)
        assert forgotten
        kinds = [type(event) for event in keyed.store.read_all()]
        assert kinds == [ForgettingNamed, SubjectForgotten]
        assert keyed.store.read("Person-7")[0].sealed

    def test_an_append_of_a_subject_waits_for_its_forgetting_and_is_refused(self, keyed: Keyed) -> None:
        keyed.store.append("Person-7", [named()], 0)
        outcome: list[object] = []

        def append() -> None:
            try:
                outcome.append(keyed.store.append("Person-7", [named()], 1))
            except ForgottenSubject as error:
                outcome.append(error)

        thread = threading.Thread(target=append)
        with keyed.store.transaction() as transaction:
            transaction.forget(7)
            thread.start()
            thread.join(0.1)
        thread.join(PATIENCE)
        assert [type(each) for each in outcome] == [ForgottenSubject]
        assert len(keyed.store.read("Person-7")) == 1

    def test_two_appends_of_one_subject_do_not_wait_for_each_other(self, keyed: Keyed) -> None:
        keyed.store.append("Person-7", [named()], 0)
        with keyed.store.transaction() as transaction:
            transaction.append("Person-7", [named()], 1)
            assert keyed.store.append("Other-1", [named()], 0) == 1


class TestReadModels:
    def test_a_read_model_scrubs_its_rows_when_a_subject_is_forgotten(self, keyed: Keyed) -> None:
        store = keyed.store
        rows: dict[str, str] = {}

        def handle(event: Event) -> None:
            if isinstance(event, SubjectForgotten):
                rows[event.subject] = "(erased)"
            elif isinstance(event, ForgettingNamed):
                rows[str(event.who)] = event.name

        names = keyed.front.subscription("names", handle, event_types=[ForgettingNamed, SubjectForgotten])
        store.append("Person-7", [named()], 0)
        names.run_until_caught_up()
        assert rows == {"7": f"{MARKER} name"}
        store.forget(7)
        names.run_until_caught_up()
        assert rows == {"7": "(erased)"}

    def test_a_follower_without_keys_gets_placeholders(self, keyed: Keyed) -> None:
        keyed.store.append("Person-7", [named()], 0)
        found: list[Event] = []
        keyed.front_without_keys.subscription("names", found.append).run_until_caught_up()
        assert [event.sealed for event in found] == [("name", "metadata.ip")]


class TestSnapshots:
    def repository(self, keyed: Keyed, *, keys: bool = True) -> Any:
        return keyed.repository(ForgettingPerson, 2, keys=keys)

    def saved(self, keyed: Keyed) -> ForgettingPerson:
        person = ForgettingPerson("1")
        for number in range(4):
            person.rename(7, f"{MARKER} {number}")
        self.repository(keyed).save(person)
        return person

    def snapshot(self, keyed: Keyed) -> Any:
        return keyed.snapshots.load("ForgettingPerson", "1", ForgettingPerson.class_schema())

    def test_a_snapshot_is_sealed_and_used(self, keyed: Keyed) -> None:
        self.saved(keyed)
        snapshot = self.snapshot(keyed)
        assert snapshot.version == 4
        assert MARKER.encode() not in snapshot.state
        loaded = self.repository(keyed).load("1")
        assert (loaded.name, loaded.changes) == (f"{MARKER} 3", 4)
        loaded.rename(7, "5")
        loaded.rename(7, "6")
        self.repository(keyed).save(loaded)
        assert self.snapshot(keyed).version == 6
        assert self.repository(keyed).load("1").changes == 6

    def test_nothing_comes_back_out_of_a_snapshot(self, keyed: Keyed) -> None:
        self.saved(keyed)
        before = self.snapshot(keyed)
        keyed.store.forget(7)
        keyed.snapshots.save(before)  # As by a process that had loaded the aggregate before.
        loaded = self.repository(keyed).load("1")
        assert (loaded.name, loaded.changes) == ("(erased)", 4)

    def test_forgetting_deletes_the_snapshots_beside_the_events(self, keyed: Keyed) -> None:
        if "InMemory" in type(keyed.front.followed).__name__:
            pytest.skip("a store in memory knows no snapshot store")
        self.saved(keyed)
        other = ForgettingPerson("2")
        other.rename(8, "x")
        other.rename(8, "y")
        self.repository(keyed).save(other)
        keyed.store.forget(7)
        assert self.snapshot(keyed) is None
        assert keyed.snapshots.load("ForgettingPerson", "2", ForgettingPerson.class_schema()) is not None

    def test_none_is_taken_of_placeholders(self, keyed: Keyed) -> None:
        self.saved(keyed)
        keyed.snapshots.delete("ForgettingPerson", "1")
        without = self.repository(keyed, keys=False)
        assert without.load("1").name == "(erased)"
        assert self.snapshot(keyed) is None
        keyed.store.forget(7)
        assert self.repository(keyed).load("1").name == "(erased)"
        assert self.snapshot(keyed) is None

    def test_a_process_without_keys_replays_instead_of_using_a_sealed_snapshot(
        self, keyed: Keyed, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.saved(keyed)
        assert self.repository(keyed, keys=False).load("1").changes == 4
        assert caplog.records == []

    def test_the_state_of_an_aggregate_without_marks_is_sealed_as_well(self, keyed: Keyed) -> None:
        class ForgettingDiary(Aggregate["ForgettingDiary"]):
            entries: tuple[str, ...] = ()

            def apply(self, event: Event) -> None:
                assert isinstance(event, ForgettingNamed)
                self.entries = (*self.entries, event.name)

        diary = ForgettingDiary("1")
        diary._record(named(7))
        diary._record(named(8))
        diaries = keyed.repository(ForgettingDiary, 1)
        diaries.save(diary)
        snapshot = keyed.snapshots.load("ForgettingDiary", "1", ForgettingDiary.class_schema())
        assert snapshot is not None
        assert MARKER.encode() not in snapshot.state
        assert diaries.load("1").entries == (f"{MARKER} name",) * 2
        keyed.store.forget(8)
        assert diaries.load("1").entries == (f"{MARKER} name", "(erased)")

    def test_none_is_taken_of_too_many_subjects_and_that_is_said_once(
        self, keyed: Keyed, caplog: pytest.LogCaptureFixture
    ) -> None:
        class ForgettingCrowd(Aggregate["ForgettingCrowd"]):
            def apply(self, event: Event) -> None:
                pass

        crowds = keyed.repository(ForgettingCrowd, 1)
        for name in ("1", "2"):
            crowd = ForgettingCrowd(name)
            for who in range(9):
                crowd._record(named(who))
            crowds.save(crowd)
        assert keyed.snapshots.load("ForgettingCrowd", "1", ForgettingCrowd.class_schema()) is None
        (record,) = caplog.records
        assert "ForgettingCrowd are taken: its state holds personal data of more than 8 subjects" in record.message

    def test_a_marked_aggregate_of_plain_events_is_sealed_under_its_own_subject_or_not_taken(
        self, keyed: Keyed, caplog: pytest.LogCaptureFixture
    ) -> None:
        plain = Event(event_type="ForgettingPlain", data={"name": f"{MARKER} plain"})

        class ForgettingOwned(Aggregate["ForgettingOwned"]):
            owner: Annotated[int | None, Subject] = None
            name: Annotated[str, Personal("")] = ""

            def apply(self, event: Event) -> None:
                self.owner, self.name = 7, event.data["name"]

        class ForgettingOwnerless(Aggregate["ForgettingOwnerless"]):
            name: Annotated[str, Personal("")] = ""

            def apply(self, event: Event) -> None:
                self.name = event.data["name"]

        for cls, is_taken in ((ForgettingOwned, True), (ForgettingOwnerless, False)):
            aggregate: Any = cls("1")
            aggregate._record(plain)
            keyed.repository(cls, 1).save(aggregate)
            snapshot = keyed.snapshots.load(cls.category, "1", cls.class_schema())
            assert (snapshot is not None) == is_taken
            assert snapshot is None or MARKER.encode() not in snapshot.state
            assert MARKER not in repr(aggregate)
        assert "nothing says whose" in caplog.text


class TestCaches:
    @pytest.mark.parametrize("how", ["load", "update"])
    def test_nothing_comes_back_out_of_a_cache(self, keyed: Keyed, how: str) -> None:
        people = keyed.repository(ForgettingPerson, 100, cache=10)
        person = ForgettingPerson("1")
        person.rename(7, f"{MARKER} 1")
        people.save(person)
        assert people.load("1").name == f"{MARKER} 1"
        keyed.store.forget(7)
        seen: list[str] = []

        def change(loaded: ForgettingPerson) -> None:
            seen.append(loaded.name)
            loaded.rename(8, "somebody else")

        loaded = people.load("1") if how == "load" else people.update("1", change)
        assert (loaded.name, seen) == (("(erased)", []) if how == "load" else ("somebody else", ["(erased)"]))

    def test_a_cached_aggregate_is_used_while_the_keys_are_remembered(self, keyed: Keyed) -> None:
        people = keyed.repository(ForgettingPerson, 100, cache=10)
        person = ForgettingPerson("1")
        person.rename(7, "a")
        people.save(person)
        before = keyed.store.last_position()
        people.update("1", lambda loaded: loaded.rename(7, f"{loaded.name}b"))
        assert people.load("1").name == "ab"
        assert keyed.store.last_position() == before + 1


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[EmbeddedServer, Path]]:
    """A server whose files can be read, and that logs every statement with its parameters."""
    settings = {"log_statement": "all", "log_min_duration_statement": "0", "log_parameter_max_length": "-1"}
    with EmbeddedServer(durable=False, settings=settings, bin_directory=wanted_binaries()) as running:
        migrate(running.dsn)
        migrate_subject_keys(running.dsn)
        yield running, Path(running._plan["data"]).parent


def dumped(dsn: str) -> bytes:
    """A full dump of a database, of every schema, with binary columns in both forms that one can have."""
    pg_dump = find_binaries(wanted_binaries()) / "pg_dump"
    if not pg_dump.exists():
        pytest.skip("this PostgreSQL comes without pg_dump")
    text = subprocess.run([pg_dump, dsn], check=True, capture_output=True).stdout
    decoded = b"".join(bytes.fromhex(part.decode()) for part in _hex_columns(text))
    return text + decoded


def _hex_columns(text: bytes) -> list[bytes]:
    return [found for found in re.findall(rb"\\\\x([0-9a-f]*)", text) if len(found) % 2 == 0]


class TestOnDisk:
    def test_no_dump_and_no_log_holds_anything_personal(
        self, server: tuple[EmbeddedServer, Path], caplog: pytest.LogCaptureFixture
    ) -> None:
        running, _ = server
        caplog.set_level(logging.DEBUG)
        with set_up(running.dsn, "eventstore", running.dsn, "eventstore_keys") as setup:
            people = Repository(setup.store, ForgettingPerson, setup.snapshots, snapshot_frequency=2)
            person = ForgettingPerson("dumped")
            for number in range(5):
                person.rename(7, f"{MARKER} {number}")
            people.save(person)
            assert people.load("dumped").name == f"{MARKER} 4"

            def fail(event: Event) -> None:
                raise RuntimeError(f"{event!r} failed")

            parking = Subscription(setup.store, "parking", fail, on_failure="park", attempts=1)
            parking.run_until_caught_up()
            with suppress(EventStoreError):
                setup.store.append("Person-dumped", [named()], 99)
            key = setup.keys.get_or_create("7")
            dump = dumped(running.dsn)
            assert b"ForgettingNamed" in dump
            assert b"eventstore.snapshots" in dump
            assert MARKER.encode() not in dump
            assert key not in dump
            log = Path(running._plan["log"]).read_bytes()
            assert b"append_personal" in log
            assert MARKER.encode() not in log
            assert MARKER.encode().hex().encode() not in log
            assert key.hex().encode() not in log
            assert MARKER not in caplog.text
            plain = Event(event_type="Plain", data={"name": f"{MARKER} in plain"})
            setup.store.append("Plain-1", [plain], 0)
            assert MARKER.encode() in dumped(running.dsn), "the search does not find what is there"

    def test_after_a_vacuum_no_file_of_a_table_holds_the_wrapped_key(self, server: tuple[EmbeddedServer, Path]) -> None:
        running, home = server
        with set_up(running.dsn, "eventstore", running.dsn, "eventstore_keys") as setup:
            setup.store.append("Person-erased", [named(number) for number in range(500, 510)], 0)
            with psycopg.connect(running.dsn, autocommit=True) as connection:
                rows = connection.execute("SELECT wrapped FROM eventstore_keys.subject_keys WHERE subject = '505'")
                ((wrapped,),) = rows.fetchall()
                connection.execute("CHECKPOINT")
                assert holders_of(wrapped, home)
                setup.store.forget(505)
                connection.execute("VACUUM (FULL) eventstore_keys.subject_keys")
                connection.execute("CHECKPOINT")
                assert eventually(lambda: not holders_of(wrapped, home))
            assert wrapped not in dumped(running.dsn)
            assert [event.sealed != () for event in setup.store.read("Person-erased")].count(True) == 1


def holders_of(part: bytes, home: Path) -> list[Path]:
    """The files of tables that hold some bytes."""
    files = [path for path in home.glob("data/base/*/*") if path.is_file()]
    assert files
    return [path for path in files if part in path.read_bytes()]


def sealed_record(store: InMemoryEventStore) -> Any:
    (record,) = store._engine._log
    return record


def test_no_mutated_ciphertext_is_read_as_anything() -> None:
    keys = InMemorySubjectKeys()
    store = InMemoryEventStore(subject_keys=keys)
    store.append("Person-7", [named()], 0)
    record = sealed_record(store)
    start = record.data.index(b"\xc7")
    chance = random.Random(7)  # noqa: S311 no secret
    wrong: list[object] = []
    refused = 0
    for number in range(10_000):
        data = bytearray(record.data)
        place = chance.randrange(start + 24 if number % 2 else start + 3, len(data))
        data[place] ^= 1 << chance.randrange(8)
        store._engine._streams["Person-7"][0] = record._replace(data=bytes(data))
        try:
            (event,) = store.read("Person-7")
        except DeserializationError:
            refused += 1
        else:
            wrong.append(event.data)
    assert not wrong
    assert refused == 10_000


@pytest.mark.parametrize("change", ["event_id", "field", "stream", "metadata"])
def test_a_sealed_value_can_not_be_moved(change: str) -> None:
    store = InMemoryEventStore(subject_keys=InMemorySubjectKeys())
    store.append("Person-7", [named()], 0)
    record = sealed_record(store)
    moved = {
        "event_id": record._replace(event_id=bytes(16)),
        "field": record._replace(data=record.data.replace(b"\xa4name", b"\xa4mane")),
        "metadata": record._replace(metadata=record.metadata.replace(b"\xa2ip", b"\xa2pi")),
        "stream": record._replace(stream_id="Person-8"),
    }[change]
    store._engine._streams["Person-7"][0] = moved
    if change == "stream":  # A copy of a stream keeps ids, and can be read.
        assert store.read("Person-7")[0].name == f"{MARKER} name"
        return
    with pytest.raises(DeserializationError, match="damaged, was moved"):
        store.read("Person-7")


def test_no_error_or_log_line_repeats_anything_personal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keys = InMemorySubjectKeys()
    store = InMemoryEventStore(subject_keys=keys)
    event = named()
    key = keys.get_or_create("7")
    errors: list[BaseException] = []

    def refused(use: Callable[[], object]) -> None:
        with pytest.raises(EventStoreError) as raised:
            use()
        errors.append(raised.value)

    refused(lambda: InMemoryEventStore().append("Person-7", [event], 0))
    store.append("Person-7", [event], 0)
    refused(lambda: store.append("Person-7", [named()], 0))
    refused(lambda: store.append("Person-7", [ForgettingNamed(who=7, name=[f"{MARKER}", object()])], 1))  # type: ignore[arg-type]
    refused(lambda: store.append("Person-7", [ForgettingNamed(who=None, name=MARKER)], 1))  # type: ignore[arg-type]
    record = sealed_record(store)
    store._engine._streams["Person-7"][0] = record._replace(data=record.data[:-1] + bytes([record.data[-1] ^ 1]))
    refused(lambda: store.read("Person-7"))
    store.forget(7)
    refused(lambda: store.append("Person-8", [named()], ExpectedVersion.ANY))
    text = "\n".join(map(everything_of, errors)) + caplog.text + repr(keys) + repr(store) + repr(event)
    assert MARKER not in text
    for secret in (key, KEY_ENCRYPTION_KEY):
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text
