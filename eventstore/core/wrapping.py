"""What a key store with a table does: keys are wrapped by a key-encryption key, and found, made, rewrapped. No I/O."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Protocol, TypeAlias, cast, runtime_checkable

from eventstore.codec.sealing import KEY_BYTES, Cipher
from eventstore.core.key_requests import AddKey, DestroyKey, FindKeys, KeysToRewrap, ListKeys, RewrapKey, WrappedKey
from eventstore.core.operations import repeated
from eventstore.core.requests import Call, Operation, ask
from eventstore.core.subject_keys import KeyRecord
from eventstore.errors import EventStoreError, ForgottenSubject, InvalidArgument, SubjectKeyError
from eventstore.names import check_name
from eventstore.signals import raised_by_a_signal

_PAGE = 500


@runtime_checkable
class KeyEncryption(Protocol):
    """A key-encryption key that is kept elsewhere, such as in a KMS. The methods may be async in an async key store.

    ``name`` is stored beside each key that it wraps, so that keys can be told apart when it is rotated. ``subject`` is
    to be bound to the key where that is possible, as an encryption context.
    """

    @property
    def name(self) -> str:
        """What distinguishes it from those before and after it: 1 to 255 bytes."""
        ...

    def wrap(self, key: bytes, subject: str) -> bytes | Awaitable[bytes]:
        """Encrypt a subject's key."""
        ...

    def unwrap(self, wrapped: bytes, subject: str) -> bytes | Awaitable[bytes]:
        """Decrypt what ``wrap`` returned. Raise any exception if that is not possible."""
        ...


Wrapping: TypeAlias = bytes | KeyEncryption
"""A key-encryption key: 32 bytes, or what can wrap keys."""


class _KeyEncryptionKey:
    """A key-encryption key that this process has."""

    def __init__(self, key: bytes) -> None:
        self.name = f"sha256:{sha256(b'eventstore key-encryption key' + key).hexdigest()[:16]}"
        self._cipher = Cipher("", key)

    def __repr__(self) -> str:
        return f"<key-encryption key {self.name}>"

    def wrap(self, key: bytes, subject: str) -> bytes:
        return self._cipher.seal(key, subject.encode())

    def unwrap(self, wrapped: bytes, subject: str) -> bytes:
        return self._cipher.open(wrapped, subject.encode())


class KeyTable:
    """The operations of a key store with a table. ``wrap`` wraps new keys, ``formerly`` older ones."""

    def __init__(self, wrap: Wrapping, formerly: Iterable[Wrapping]) -> None:
        if isinstance(formerly, (bytes, str)) or not isinstance(formerly, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument("formerly must be a list of key-encryption keys")
        self._wrap = _key_encryption("wrap", wrap)
        self._known: Mapping[str, KeyEncryption] = {
            each.name: each for each in [*(_key_encryption("formerly", key) for key in formerly), self._wrap]
        }

    def get_many(self, subjects: Sequence[str]) -> Operation[Mapping[str, bytes | None]]:
        """SubjectKeys.get_many."""
        found: dict[str, bytes | None] = {}
        for start in range(0, len(subjects), _PAGE):
            rows = yield from repeated(FindKeys(subjects[start : start + _PAGE]))
            for row in rows:
                found[row.subject] = None if row.wrapped is None else (yield from self._unwrapped(row))
        return found

    def get(self, subject: str) -> Operation[bytes | None]:
        """SubjectKeys.get."""
        found = yield from self.get_many([subject])
        if subject not in found:
            return None
        key = found[subject]
        if key is None:
            raise ForgottenSubject(subject)
        return key

    def get_or_create(self, subject: str) -> Operation[bytes]:
        """SubjectKeys.get_or_create. Whoever is first makes the key; the others find it."""
        key = yield from self.get(subject)
        if key is None:
            wrapped = yield from self._wrapped(os.urandom(KEY_BYTES), subject)
            yield from repeated(AddKey(subject, wrapped, self._wrap.name))
            key = yield from self.get(subject)
        if key is None:
            raise SubjectKeyError(subject, "it was stored, and is not there: look at who deletes rows of subject_keys")
        return key

    def rewrap(self) -> Operation[int]:
        """SubjectKeys.rewrap."""
        count, after = 0, ""
        while rows := (yield from repeated(KeysToRewrap(self._wrap.name, after, _PAGE))):
            for row in rows:
                if row.wrapped is not None:
                    key = yield from self._unwrapped(row)
                    wrapped = yield from self._wrapped(key, row.subject)
                    count += yield from ask(RewrapKey(row.subject, row.wrapped, wrapped, self._wrap.name))
            after = rows[-1].subject
        return count

    def _wrapped(self, key: bytes, subject: str) -> Operation[bytes]:
        wrapped = yield from _called(
            partial(self._wrap.wrap, key, subject), subject, f"{self._wrap.name} can't wrap it"
        )
        if type(wrapped) is not bytes:
            raise SubjectKeyError(subject, f"{self._wrap.name} wrapped it in {type(wrapped).__name__}, not in bytes")
        return wrapped

    def _unwrapped(self, row: WrappedKey) -> Operation[bytes]:
        by = self._known.get(cast("str", row.wrapped_by))
        if by is None:
            raise SubjectKeyError(
                row.subject,
                f"it is wrapped by the key-encryption key {row.wrapped_by!r}, and this program has "
                f"{', '.join(map(repr, self._known))}: give it the right one, or that one as formerly=[...]",
            )
        unwrap = partial(by.unwrap, cast("bytes", row.wrapped), row.subject)
        key = yield from _called(unwrap, row.subject, f"{by.name} can't unwrap it, so its row is damaged")
        if type(key) is not bytes or len(key) != KEY_BYTES:
            raise SubjectKeyError(row.subject, f"{by.name} unwrapped something else than {KEY_BYTES} bytes")
        return key


def _called(function: Callable[[], bytes | Awaitable[bytes]], subject: str, otherwise: str) -> Operation[bytes]:
    """What a key-encryption key returns. Its own errors, which may say anything, are named only by their types."""
    try:
        return (yield from ask(Call(function)))
    except EventStoreError:
        raise
    except Exception as error:
        if raised_by_a_signal(error):
            raise
        raise SubjectKeyError(subject, f"{otherwise} ({type(error).__name__})") from None


def destroy(subject: str, reason: str) -> Operation[None]:
    """SubjectKeys.destroy."""
    yield from repeated(DestroyKey(subject, reason))


def records(after: str = "") -> Operation[list[KeyRecord]]:
    """What is known of the first subjects after one, but for their keys."""
    return (yield from repeated(ListKeys(after, _PAGE)))


def _key_encryption(what: str, key: object) -> KeyEncryption:
    if isinstance(key, bytes):
        if len(key) != KEY_BYTES:
            raise InvalidArgument(f"{what} must be a key-encryption key of {KEY_BYTES} bytes, not of {len(key)}")
        return _KeyEncryptionKey(key)
    if not isinstance(key, KeyEncryption):
        raise InvalidArgument(
            f"{what} must be {KEY_BYTES} bytes, or have name, wrap and unwrap as a KeyEncryption, and a "
            f"{type(key).__name__} does not"
        )
    check_name(f"{what}.name", key.name)
    return key
