"""The keys of subjects on PostgreSQL, in a schema or a database of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, cast

from psycopg import Connection

from eventstore.core import wrapping
from eventstore.core.blocking import Executor
from eventstore.core.deadlines import DEFAULT_TIMEOUT
from eventstore.core.key_requests import DestroyKey, FindKeyRecord, WhereKeysAre
from eventstore.core.operations import repeated
from eventstore.core.subject_keys import KEY_TTL, KeyRecord, SubjectKeys, checked_ttl
from eventstore.core.wrapping import KeyTable, Wrapping
from eventstore.postgres.connections import Connections, OwnPool, Pool
from eventstore.postgres.stores import PoolClient, execute

DEFAULT_KEYS_SCHEMA = "eventstore_keys"


class PostgresSubjectKeys(PoolClient, Executor, SubjectKeys):
    """Keys in a table, each wrapped by a key-encryption key that is not in the database. Safe for threads and forks.

    >>> key_encryption_key = bytes.fromhex("8f" * 32)  # Yours comes from the environment, and is random.
    >>> keys = PostgresSubjectKeys.connect(dsn, wrap=key_encryption_key, schema=keys_schema)
    >>> store = PostgresEventStore.connect(dsn, schema, subject_keys=keys)

    Args:
        pool: a ``psycopg_pool.ConnectionPool`` that no event store uses, as that needs keys while it holds a
            connection. The database may be another one than that of the events.
        wrap: the key-encryption key: 32 bytes, or an object with the methods of KeyEncryption, which asks a KMS.
        formerly: key-encryption keys that still wrap keys. ``rewrap`` makes them superfluous.
        schema: the schema of the table; ``migrate_subject_keys`` creates what is in it.
        key_ttl: seconds for which stores of this process remember a key, and so may read after another process has
            forgotten its subject. 0: not at all.
        timeout: the number of seconds that a call may take, waits included; None: no bound.

    Raises:
        InvalidArgument: an argument is invalid. So is a key-encryption key of another length.
    """

    def __init__(
        self,
        pool: Pool | Connections,
        *,
        wrap: Wrapping,
        formerly: Iterable[Wrapping] = (),
        schema: str = DEFAULT_KEYS_SCHEMA,
        key_ttl: float = KEY_TTL,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> None:
        super().__init__(pool, schema, timeout=timeout)
        self.statements.migrate_with = f"eventstore subjects migrate --keys-schema {schema}"
        self.key_ttl = checked_ttl(key_ttl)
        self._table = KeyTable(wrap, formerly)

    @classmethod
    def connect(
        cls,
        dsn: str,
        *,
        wrap: Wrapping,
        formerly: Iterable[Wrapping] = (),
        schema: str = DEFAULT_KEYS_SCHEMA,
        key_ttl: float = KEY_TTL,
        max_size: int = 4,
        prepare: bool = True,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Self:
        """Return a key store with at most ``max_size`` connections of its own. It connects on first use."""
        pool = OwnPool(dsn, max_size, prepare=prepare)
        return cls(pool, wrap=wrap, formerly=formerly, schema=schema, key_ttl=key_ttl, timeout=timeout)

    def get_or_create(self, subject: str) -> bytes:
        return self.carry_out(self._table.get_or_create(subject))

    def get(self, subject: str) -> bytes | None:
        return self.carry_out(self._table.get(subject))

    def get_many(self, subjects: Sequence[str]) -> Mapping[str, bytes | None]:
        return self.carry_out(self._table.get_many(subjects))

    def destroy(self, subject: str, reason: str) -> None:
        self.carry_out(wrapping.destroy(subject, reason))

    def rewrap(self) -> int:
        return self.carry_out(self._table.rewrap())

    def records(self, after: str = "") -> list[KeyRecord]:
        """Return what is known of the first subjects after one, but for their keys, in the order of their texts."""
        return self.carry_out(wrapping.records(after))

    def record(self, subject: str) -> KeyRecord | None:
        return self.carry_out(repeated(FindKeyRecord(subject)))

    def joins(self, transaction: object) -> bool:
        """Return whether a transaction is of the same database, and may destroy keys."""
        connection: object = getattr(transaction, "connection", None)
        if not isinstance(connection, Connection):
            return False
        request = WhereKeysAre(self.statements.schema)
        there = execute(cast("Connection[Any]", connection), request, self.statements)
        return there is not None and there == self.carry_out(repeated(request))

    def destroy_in(self, transaction: Any, subject: str, reason: str) -> None:
        execute(transaction.connection, DestroyKey(subject, reason), self.statements)
