"""The keys of subjects in memory: for tests, and for what ends with the process."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from eventstore.codec.sealing import KEY_BYTES
from eventstore.core.subject_keys import KEY_TTL, AsyncSubjectKeys, KeyRecord, SubjectKeys, checked_ttl
from eventstore.errors import ForgottenSubject


class InMemorySubjectKeys(SubjectKeys):
    """Keys that live as long as the object. Safe for threads.

    ``key_ttl`` is the number of seconds for which stores remember a key.
    """

    def __init__(self, *, key_ttl: float = KEY_TTL) -> None:
        self.key_ttl = checked_ttl(key_ttl)
        self._keys: dict[str, bytes | None] = {}
        self._records: dict[str, KeyRecord] = {}
        self._lock = threading.Lock()

    def get_or_create(self, subject: str) -> bytes:
        with self._lock:
            if subject not in self._keys:
                self._keys[subject] = os.urandom(KEY_BYTES)
                self._records[subject] = KeyRecord(subject, datetime.now(UTC), "memory", None, None)
            key = self._keys[subject]
        if key is None:
            raise ForgottenSubject(subject)
        return key

    def get(self, subject: str) -> bytes | None:
        if subject not in self._keys:
            return None
        key = self._keys[subject]
        if key is None:
            raise ForgottenSubject(subject)
        return key

    def get_many(self, subjects: Sequence[str]) -> Mapping[str, bytes | None]:
        return {subject: self._keys[subject] for subject in subjects if subject in self._keys}

    def destroy(self, subject: str, reason: str) -> None:
        with self._lock:
            if subject in self._keys and self._keys[subject] is None:
                return
            self._keys[subject] = None
            before = self._records.get(subject)
            created_at = before.created_at if before else None
            self._records[subject] = KeyRecord(subject, created_at, None, datetime.now(UTC), reason)

    def rewrap(self) -> int:
        """Return 0: nothing wraps keys in memory."""
        return 0

    def records(self, after: str = "") -> list[KeyRecord]:
        """Return what is known of the subjects after one, but for their keys, in the order of their texts."""
        return [self._records[subject] for subject in sorted(self._records) if subject > after]

    def record(self, subject: str) -> KeyRecord | None:
        return self._records.get(subject)


class AsyncInMemorySubjectKeys(AsyncSubjectKeys):
    """InMemorySubjectKeys in async."""

    def __init__(self, *, key_ttl: float = KEY_TTL) -> None:
        self._keys = InMemorySubjectKeys(key_ttl=key_ttl)
        self.key_ttl = self._keys.key_ttl

    async def get_or_create(self, subject: str) -> bytes:
        return self._keys.get_or_create(subject)

    async def get(self, subject: str) -> bytes | None:
        return self._keys.get(subject)

    async def get_many(self, subjects: Sequence[str]) -> Mapping[str, bytes | None]:
        return self._keys.get_many(subjects)

    async def destroy(self, subject: str, reason: str) -> None:
        self._keys.destroy(subject, reason)

    async def rewrap(self) -> int:
        """As InMemorySubjectKeys.rewrap."""
        return self._keys.rewrap()

    async def records(self, after: str = "") -> list[KeyRecord]:
        """As InMemorySubjectKeys.records."""
        return self._keys.records(after)
