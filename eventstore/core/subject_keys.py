"""The keys of subjects: what a key store is, what is remembered of it, and which keys a batch of events needs."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from eventstore.codec.sealing import Cipher, Keys
from eventstore.core.arguments import check_instance
from eventstore.core.requests import Call, Operation, ask
from eventstore.errors import ForgottenSubject, InvalidArgument, InvalidOperation

KEY_TTL = 60.0
"""Seconds that a process remembers a key, and so may still read after another one has destroyed it."""
_LONGEST_TTL = 86_400.0
_MOST_KEYS = 10_000
"""Keys that a process remembers; above that it begins again."""


class KeyRecord(NamedTuple):
    """What a key store says of a subject, but for the key."""

    subject: str
    created_at: datetime | None
    """When the key was made; None if the subject was forgotten before it had one."""
    wrapped_by: str | None
    """The name of the key-encryption key that wraps it; None once it is destroyed."""
    forgotten_at: datetime | None
    reason: str | None
    """Why the subject was forgotten."""


class _KeyCache:
    """Ciphers of a key store, and which subjects it says are forgotten. Each step is atomic: threads need no lock."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[float, Cipher | None]] = {}

    def get(self, subjects: Iterable[str]) -> dict[str, Cipher | None]:
        now = time.monotonic()
        found: dict[str, Cipher | None] = {}
        for subject in subjects:
            entry = self._found.get(subject)
            if entry is not None and entry[0] > now:
                found[subject] = entry[1]
        return found

    def put(self, subject: str, cipher: Cipher | None, seconds: float) -> None:
        if seconds > 0:
            if len(self._found) >= _MOST_KEYS:
                self._found = {}
            self._found[subject] = (time.monotonic() + seconds, cipher)

    def drop(self, subject: str) -> None:
        self._found.pop(subject, None)


class _Remembering:
    """What key stores, blocking or async, have in common."""

    key_ttl: float = KEY_TTL
    """Seconds that stores remember a key; 0: not at all."""

    @property
    def cache(self) -> _KeyCache:
        """The keys that stores remember."""
        found: _KeyCache | None = self.__dict__.get("_cache")
        return found if found is not None else self.__dict__.setdefault("_cache", _KeyCache())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class SubjectKeys(_Remembering, ABC):
    """Keeps a key of 32 random bytes for each subject of personal data, until it is forgotten.

    InMemorySubjectKeys and PostgresSubjectKeys are such stores. Subclass it to keep the keys elsewhere. Subjects are
    given as texts. A store must be safe for threads, and two processes that create a key at once must end with one.
    """

    @abstractmethod
    def get_or_create(self, subject: str) -> bytes:
        """Return the key of a subject, which is made if there is none.

        Raises:
            ForgottenSubject: the subject was forgotten. It never gets another key.
        """

    @abstractmethod
    def get(self, subject: str) -> bytes | None:
        """Return the key of a subject, or None if it never had one.

        Raises:
            ForgottenSubject: the subject was forgotten.
        """

    def get_many(self, subjects: Sequence[str]) -> Mapping[str, bytes | None]:
        """Return the keys of subjects, None for those that were forgotten, without those that never had a key."""
        found: dict[str, bytes | None] = {}
        for subject in subjects:
            try:
                key = self.get(subject)
            except ForgottenSubject:
                found[subject] = None
            else:
                if key is not None:
                    found[subject] = key
        return found

    @abstractmethod
    def destroy(self, subject: str, reason: str) -> None:
        """Destroy the key of a subject, and note that it was forgotten, when and why. Do nothing if it was before.

        A subject without a key is noted, too.
        """

    @abstractmethod
    def rewrap(self) -> int:
        """Wrap keys that an older key-encryption key wraps by the present one, and return how many these were."""

    def records(self, after: str = "") -> list[KeyRecord]:  # noqa: ARG002 the interface's
        """Return what is known of the first subjects after one, but for their keys, in the order of their texts.

        Raises InvalidOperation in a key store that keeps no list. `eventstore subjects list` calls it.
        """
        raise InvalidOperation(f"a {type(self).__name__} lists no subjects: define its method records()")

    def record(self, subject: str) -> KeyRecord | None:
        """Return what is known of a subject, but for its key. By default it is looked for in all ``records``."""
        after = ""
        while page := self.records(after):
            for record in page:
                if record.subject == subject:
                    return record
            after = page[-1].subject
        return None

    def joins(self, transaction: object) -> bool:  # noqa: ARG002 what a key store in the same database looks at
        """Return whether ``destroy_in`` can destroy a key in a transaction of an event store, as a part of it."""
        return False

    def destroy_in(self, transaction: Any, subject: str, reason: str) -> None:
        """Destroy a key in a transaction that ``joins``."""
        raise NotImplementedError


class AsyncSubjectKeys(_Remembering, ABC):
    """SubjectKeys in async."""

    @abstractmethod
    async def get_or_create(self, subject: str) -> bytes:
        """As SubjectKeys.get_or_create."""

    @abstractmethod
    async def get(self, subject: str) -> bytes | None:
        """As SubjectKeys.get."""

    async def get_many(self, subjects: Sequence[str]) -> Mapping[str, bytes | None]:
        """As SubjectKeys.get_many."""
        found: dict[str, bytes | None] = {}
        for subject in subjects:
            try:
                key = await self.get(subject)
            except ForgottenSubject:
                found[subject] = None
            else:
                if key is not None:
                    found[subject] = key
        return found

    @abstractmethod
    async def destroy(self, subject: str, reason: str) -> None:
        """As SubjectKeys.destroy."""

    @abstractmethod
    async def rewrap(self) -> int:
        """As SubjectKeys.rewrap."""

    async def joins(self, transaction: object) -> bool:  # noqa: ARG002
        """As SubjectKeys.joins."""
        return False

    async def destroy_in(self, transaction: Any, subject: str, reason: str) -> None:
        """As SubjectKeys.destroy_in."""
        raise NotImplementedError


AnySubjectKeys: TypeAlias = SubjectKeys | AsyncSubjectKeys


_K = TypeVar("_K")


def checked_keys(keys: _K, kind: type[Any]) -> _K:
    """Return the keys of a store. Raises InvalidArgument for another kind, such as async ones in a blocking store."""
    if keys is not None:
        check_instance("subject_keys", keys, kind)
    return keys


def checked_ttl(key_ttl: object) -> float:
    """Return a time to remember keys. Raises InvalidArgument."""
    if isinstance(key_ttl, bool) or not isinstance(key_ttl, (int, float)) or not 0 <= key_ttl <= _LONGEST_TTL:
        raise InvalidArgument(f"key_ttl must be a number of seconds from 0 to 86,400, not {key_ttl!r}")
    return float(key_ttl)


def are_remembered(subjects: Iterable[str], keys: AnySubjectKeys | None) -> bool:
    """Whether a process remembers the keys of all these subjects, so that none was forgotten ``key_ttl`` ago."""
    wanted = list(subjects)
    return keys is not None and all(keys.cache.get(wanted).get(subject) for subject in wanted)


def ciphers(keys: AnySubjectKeys, subjects: Sequence[str], *, create: bool) -> Operation[Keys]:
    """The keys of subjects, each None if it was forgotten. Those that never had one are made, or missing."""
    cache = keys.cache
    found = cache.get(subjects)
    missing = [subject for subject in subjects if subject not in found]
    if not missing:
        return found
    known: Mapping[str, bytes | None] = yield from ask(Call(partial(keys.get_many, missing)))
    for subject in missing:
        key = known.get(subject)
        if subject not in known:
            if not create:
                continue
            try:
                key = yield from ask(Call(partial(keys.get_or_create, subject)))
            except ForgottenSubject:
                key = None
        cipher = None if key is None else Cipher(subject, key)
        cache.put(subject, cipher, keys.key_ttl)
        found[subject] = cipher
    return found
