"""Key stores: one key a subject, wrapped, rotated, destroyed for good, and shared by threads, forks and tasks."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import pytest
from keyed_stores import KEY_ENCRYPTION_KEY

from eventstore import (
    AsyncInMemoryEventStore,
    Event,
    ForgottenSubject,
    InMemoryEventStore,
    InvalidArgument,
    PostgresEventStore,
    SchemaError,
    SubjectKeyError,
)
from eventstore.privacy import (
    AsyncInMemorySubjectKeys,
    AsyncPostgresSubjectKeys,
    InMemorySubjectKeys,
    Personal,
    PostgresSubjectKeys,
    Subject,
    SubjectKeys,
    migrate_subject_keys,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyed_stores import Keyed

NEW_KEY = bytes(reversed(range(32)))


class KeysNamed(Event):
    who: Annotated[int, Subject]
    name: Annotated[str, Personal("(erased)")]


@pytest.fixture
def keys(dsn: str, keys_schema: str) -> Iterator[PostgresSubjectKeys]:
    with PostgresSubjectKeys.connect(dsn, wrap=KEY_ENCRYPTION_KEY, schema=keys_schema, key_ttl=0) as keys:
        yield keys


def test_a_key_is_made_once_and_destroyed_for_good(keyed: Keyed) -> None:
    keys = keyed.keys
    assert keys.get("7") is None
    key = keys.get_or_create("7")
    assert len(key) == 32
    assert (keys.get("7"), keys.get_or_create("7"), keys.get_or_create("8") == key) == (key, key, False)
    keys.destroy("7", "Art. 17")
    for use in (keys.get, keys.get_or_create):
        with pytest.raises(ForgottenSubject):
            use("7")
    keys.destroy("7", "again")
    keys.destroy("9", "never had one")
    assert keys.get_many(["7", "8", "9", "10"]) == {"7": None, "8": keys.get("8"), "9": None}
    found = {record.subject: record for record in keys.records()}
    assert [(subject, record.reason, record.wrapped_by is None) for subject, record in found.items()] == [
        ("7", "Art. 17", True),
        ("8", None, False),
        ("9", "never had one", True),
    ]
    assert found["7"].created_at is not None
    assert found["9"].created_at is None
    assert [record.subject for record in keys.records("7")] == ["8", "9"]
    assert keys.rewrap() == 0


def test_threads_and_processes_that_make_a_key_at_once_end_with_one(
    keys: PostgresSubjectKeys, dsn: str, keys_schema: str
) -> None:
    others = [
        PostgresSubjectKeys.connect(dsn, wrap=KEY_ENCRYPTION_KEY, schema=keys_schema, max_size=1) for _ in range(8)
    ]
    barrier = threading.Barrier(len(others))

    def make(other: PostgresSubjectKeys) -> list[bytes]:
        barrier.wait()
        return [other.get_or_create(str(number)) for number in range(20)]

    with ThreadPoolExecutor(len(others)) as threads:
        found = list(threads.map(make, others))
    for other in others:
        other.close()
    assert all(each == found[0] for each in found)
    assert [keys.get(str(number)) for number in range(20)] == found[0]


def test_keys_are_stored_wrapped(keys: PostgresSubjectKeys, dsn: str, keys_schema: str) -> None:
    key = keys.get_or_create("7")
    with psycopg.connect(dsn) as connection:
        ((wrapped, name),) = connection.execute(
            f"SELECT wrapped, wrapped_by FROM {keys_schema}.subject_keys"
        ).fetchall()
    assert key not in wrapped
    assert KEY_ENCRYPTION_KEY.hex() not in name


def test_rotation_wraps_all_keys_by_the_new_key_encryption_key_and_touches_no_event(
    keys: PostgresSubjectKeys, dsn: str, keys_schema: str, schema: str
) -> None:
    events = [KeysNamed(who=number, name=f"Name {number}") for number in range(3)]
    with PostgresEventStore.connect(dsn, schema, subject_keys=keys) as store:
        store.append("Names-1", events, 0)
    connect = PostgresSubjectKeys.connect
    with connect(dsn, wrap=NEW_KEY, formerly=[KEY_ENCRYPTION_KEY], schema=keys_schema) as rotating:
        assert rotating.get("1") == keys.get("1")
        keys.destroy("2", "")
        assert rotating.rewrap() == 2
        assert rotating.rewrap() == 0
        assert (rotating.get_or_create("new"), keys.get_many(["2"])) == (rotating.get("new"), {"2": None})
    with (
        connect(dsn, wrap=NEW_KEY, schema=keys_schema) as rotated,
        PostgresEventStore.connect(dsn, schema, subject_keys=rotated) as store,
    ):
        assert store.read("Names-1")[:2] == events[:2]
    with pytest.raises(SubjectKeyError, match="wrapped by the key-encryption key"):
        keys.get("1")


def test_a_wrong_key_encryption_key_is_said_to_be_wrong_and_not_the_data_damaged(
    keys: PostgresSubjectKeys, dsn: str, keys_schema: str, schema: str
) -> None:
    with PostgresEventStore.connect(dsn, schema, subject_keys=keys) as store:
        store.append("Names-1", [KeysNamed(who=1, name="Ann")], 0)
    with (
        PostgresSubjectKeys.connect(dsn, wrap=NEW_KEY, schema=keys_schema) as wrong,
        PostgresEventStore.connect(dsn, schema, subject_keys=wrong) as store,
    ):
        with pytest.raises(SubjectKeyError) as raised:
            store.read("Names-1")
        with pytest.raises(SubjectKeyError):
            store.append("Names-1", [KeysNamed(who=1, name="Ann")], 1)
    assert raised.value.subject == "1"
    assert "give it the right one" in str(raised.value)
    for secret in (NEW_KEY, KEY_ENCRYPTION_KEY):
        assert secret.hex() not in str(raised.value)


def test_a_damaged_row_of_the_key_table_is_an_error_that_names_its_subject(
    keys: PostgresSubjectKeys, dsn: str, keys_schema: str
) -> None:
    keys.get_or_create("7")
    with psycopg.connect(dsn) as connection:
        connection.execute(
            f"UPDATE {keys_schema}.subject_keys SET wrapped = set_byte(wrapped, 20, 255 - get_byte(wrapped, 20))"
        )
    with pytest.raises(SubjectKeyError, match=r"'7' can't be used.*damaged"):
        keys.get("7")


def test_a_wrapped_key_that_was_moved_to_another_subject_is_not_used(
    keys: PostgresSubjectKeys, dsn: str, keys_schema: str
) -> None:
    keys.get_or_create("7")
    keys.get_or_create("8")
    with psycopg.connect(dsn) as connection:
        connection.execute(
            f"UPDATE {keys_schema}.subject_keys SET wrapped = there.wrapped FROM {keys_schema}.subject_keys AS there"
            " WHERE subject_keys.subject = '8' AND there.subject = '7'"
        )
    with pytest.raises(SubjectKeyError, match="'8'"):
        keys.get("8")


class Kms:
    """A KMS in the process."""

    name = "kms/alias/customers"

    def __init__(self) -> None:
        self.broken = False

    def wrap(self, key: bytes, subject: str) -> bytes:
        return subject.encode() + b":" + key[::-1]

    def unwrap(self, wrapped: bytes, subject: str) -> bytes:
        if self.broken:
            raise RuntimeError("token s3cret has expired")
        assert wrapped.startswith(subject.encode() + b":")
        return wrapped[-32:][::-1]


def test_a_kms_can_wrap_the_keys_and_its_errors_are_typed_and_tell_no_secret(dsn: str, keys_schema: str) -> None:
    kms = Kms()
    with PostgresSubjectKeys.connect(dsn, wrap=kms, schema=keys_schema) as keys:
        key = keys.get_or_create("7")
        assert keys.get("7") == key
        assert keys.records()[0].wrapped_by == "kms/alias/customers"
        kms.broken = True
        with pytest.raises(SubjectKeyError, match="RuntimeError") as raised:
            keys.get("7")
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None


class AsyncKms(Kms):
    async def wrap(self, key: bytes, subject: str) -> bytes:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().wrap(key, subject)

    async def unwrap(self, wrapped: bytes, subject: str) -> bytes:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().unwrap(wrapped, subject)


def test_a_kms_may_be_async_in_an_async_key_store(dsn: str, keys_schema: str) -> None:
    async def use() -> None:
        async with AsyncPostgresSubjectKeys.connect(dsn, wrap=AsyncKms(), schema=keys_schema) as keys:
            made = await asyncio.gather(*(keys.get_or_create("7") for _ in range(4)))
            assert len({*made}) == 1
            assert await keys.get("7") == made[0]

    asyncio.run(use())


@pytest.mark.parametrize("wrap", [b"", b"x" * 16, b"x" * 33, "x" * 32, None, 7, object()])
def test_a_key_encryption_key_of_another_length_or_kind_is_refused(dsn: str, wrap: Any) -> None:
    with pytest.raises(InvalidArgument) as refused:
        PostgresSubjectKeys.connect(dsn, wrap=wrap)
    assert "xxxx" not in str(refused.value)
    with pytest.raises(InvalidArgument):
        PostgresSubjectKeys.connect(dsn, wrap=NEW_KEY, formerly=[wrap])
    with pytest.raises(InvalidArgument):
        PostgresSubjectKeys.connect(dsn, wrap=NEW_KEY, formerly=wrap)


@pytest.mark.parametrize("key_ttl", [-1, "60", None, True, 86_401, float("nan")])
def test_a_key_ttl_is_a_number_of_seconds_up_to_a_day(key_ttl: Any) -> None:
    with pytest.raises(InvalidArgument, match="key_ttl"):
        InMemorySubjectKeys(key_ttl=key_ttl)


def test_a_store_takes_keys_of_its_own_colour_only() -> None:
    with pytest.raises(InvalidArgument, match="subject_keys"):
        InMemoryEventStore(subject_keys=AsyncInMemorySubjectKeys())  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="subject_keys"):
        AsyncInMemoryEventStore(subject_keys=InMemorySubjectKeys())  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="subject_keys"):
        InMemoryEventStore(subject_keys=object())  # type: ignore[arg-type]


def test_a_missing_schema_says_which_command_makes_it(dsn: str) -> None:
    with (
        PostgresSubjectKeys.connect(dsn, wrap=NEW_KEY, schema="test_nowhere") as keys,
        pytest.raises(SchemaError, match="subjects migrate --keys-schema test_nowhere"),
    ):
        keys.get("7")


def test_the_schema_of_the_keys_is_migrated_once(dsn: str, keys_schema: str) -> None:
    assert migrate_subject_keys(dsn, keys_schema) == []


class OwnKeys(SubjectKeys):
    """As somebody writes it whose keys are somewhere else."""

    def __init__(self) -> None:
        self.keys: dict[str, bytes | None] = {}
        self.asked: list[str] = []

    def get_or_create(self, subject: str) -> bytes:
        key = self.keys.setdefault(subject, os.urandom(32))
        if key is None:
            raise ForgottenSubject(subject)
        return key

    def get(self, subject: str) -> bytes | None:
        self.asked.append(subject)
        key = self.keys.get(subject)
        if key is None and subject in self.keys:
            raise ForgottenSubject(subject)
        return key

    def destroy(self, subject: str, reason: str) -> None:  # noqa: ARG002
        self.keys[subject] = None

    def rewrap(self) -> int:
        return 0


def test_a_key_store_of_your_own_needs_four_methods() -> None:
    keys = OwnKeys()
    store = InMemoryEventStore(subject_keys=keys)
    store.append("Names-1", [KeysNamed(who=1, name="Ann")], 0)
    assert store.read("Names-1")[0].name == "Ann"
    store.forget(1)
    assert store.read("Names-1")[0].name == "(erased)"
    with pytest.raises(ForgottenSubject):
        store.append("Names-1", [KeysNamed(who=1, name="Ann")], 1)


def test_a_store_remembers_a_key_for_its_time_and_asks_for_the_keys_of_a_page_at_once() -> None:
    keys = OwnKeys()
    store = InMemoryEventStore(subject_keys=keys)
    store.append("Names-1", [KeysNamed(who=number % 3, name="Ann") for number in range(9)], 0)
    assert keys.asked == ["0", "1", "2"]
    assert len(store.read("Names-1")) == 9
    assert keys.asked == ["0", "1", "2"]
    keys.cache.drop("1")
    assert len(store.read("Names-1")) == 9
    assert keys.asked == ["0", "1", "2", "1"]
    keys.key_ttl = 0
    keys.cache.drop("2")
    for _ in range(2):
        store.read("Names-1")
    assert keys.asked == ["0", "1", "2", "1", "2", "2"]


def test_what_a_key_store_returns_is_checked() -> None:
    class ShortKeys(OwnKeys):
        def get_or_create(self, subject: str) -> bytes:  # noqa: ARG002
            return b"short"

    store = InMemoryEventStore(subject_keys=ShortKeys())
    with pytest.raises(SubjectKeyError, match="32 bytes") as raised:
        store.append("Names-1", [KeysNamed(who=1, name="Ann")], 0)
    assert "short" not in str(raised.value)


def test_a_key_store_that_never_had_a_key_is_taken_for_the_wrong_one() -> None:
    store = InMemoryEventStore(subject_keys=InMemorySubjectKeys())
    store.append("Names-1", [KeysNamed(who=1, name="Ann")], 0)
    store.subject_keys = InMemorySubjectKeys()
    with pytest.raises(Exception, match="never had a key") as raised:
        store.read("Names-1")
    assert type(raised.value).__name__ == "DeserializationError"


def test_threads_share_keys_and_their_memory(keyed: Keyed) -> None:
    def work(number: int) -> list[str]:
        stream = f"Names-{number}"
        for version in range(5):
            keyed.store.append(stream, [KeysNamed(who=version, name=f"{number} {version}")], version)
        return [event.name for event in keyed.store.read(stream)]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(work, range(8)))
    assert found == [[f"{number} {version}" for version in range(5)] for number in range(8)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_uses_the_keys_of_its_parent_and_both_seal_safely(dsn: str, schema: str, keys_schema: str) -> None:
    with (
        PostgresSubjectKeys.connect(dsn, wrap=KEY_ENCRYPTION_KEY, schema=keys_schema) as keys,
        PostgresEventStore.connect(dsn, schema, subject_keys=keys) as store,
    ):
        store.append("Names-1", [KeysNamed(who=1, name="Ann")], 0)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert store.read("Names-1")[0].name == "Ann"
                store.append("Names-2", [KeysNamed(who=1, name="Ann"), KeysNamed(who=2, name="Bob")], 0)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert [event.name for event in store.read("Names-2")] == ["Ann", "Bob"]


def test_many_tasks_share_keys(dsn: str, schema: str, keys_schema: str) -> None:
    from eventstore import AsyncPostgresEventStore  # noqa: PLC0415

    async def use() -> None:
        async with (
            AsyncPostgresSubjectKeys.connect(dsn, wrap=KEY_ENCRYPTION_KEY, schema=keys_schema) as keys,
            AsyncPostgresEventStore.connect(dsn, schema, subject_keys=keys) as store,
        ):
            await asyncio.gather(
                *(store.append(f"Names-{n}", [KeysNamed(who=n % 2, name=str(n))], 0) for n in range(16))
            )
            found = await asyncio.gather(*(store.read(f"Names-{number}") for number in range(16)))
            assert [event.name for (event,) in found] == [str(number) for number in range(16)]

    asyncio.run(use())
