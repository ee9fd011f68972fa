"""Requests about the keys of subjects, which a key store with a table answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventstore.core.requests import Request
from eventstore.core.subject_keys import KeyRecord


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A row of the table, as far as it is about the key."""

    subject: str
    wrapped: bytes | None
    """None once the key is destroyed."""
    wrapped_by: str | None


@dataclass(frozen=True, slots=True)
class FindKeys(Request[list[WrappedKey]]):
    """Find the keys of some subjects."""

    subjects: Sequence[str]


@dataclass(frozen=True, slots=True)
class AddKey(Request[None]):
    """Store a key unless the subject has one, or had one."""

    subject: str
    wrapped: bytes
    wrapped_by: str


@dataclass(frozen=True, slots=True)
class DestroyKey(Request[None]):
    """Destroy the key of a subject, and note when and why, unless that was done before."""

    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class KeysToRewrap(Request[list[WrappedKey]]):
    """List keys after a subject that something else than one key-encryption key wraps."""

    wrapped_by: str
    after: str
    limit: int


@dataclass(frozen=True, slots=True)
class RewrapKey(Request[bool]):
    """Wrap a key anew, unless it was changed meanwhile; say whether it was."""

    subject: str
    before: bytes
    wrapped: bytes
    wrapped_by: str


@dataclass(frozen=True, slots=True)
class ListKeys(Request[list[KeyRecord]]):
    """List what is known of subjects after one, in the order of their texts."""

    after: str
    limit: int


@dataclass(frozen=True, slots=True)
class FindKeyRecord(Request[KeyRecord | None]):
    """Find what is known of a subject."""

    subject: str


@dataclass(frozen=True, slots=True)
class WhereKeysAre(Request[str | None]):
    """Name the database, if a key can be destroyed on this connection; None if not."""

    schema: str
