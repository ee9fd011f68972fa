"""Personal data that can be forgotten: it is sealed under a key of its subject, and the key can be destroyed.

docs/personal-data.md says how.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventstore.codec.personal import Personal, Subject
from eventstore.codec.values import Sealed
from eventstore.core.forgetting import SubjectForgotten
from eventstore.core.subject_keys import AsyncSubjectKeys, KeyRecord, SubjectKeys
from eventstore.core.wrapping import KeyEncryption
from eventstore.memory.subject_keys import AsyncInMemorySubjectKeys, InMemorySubjectKeys

if TYPE_CHECKING:
    from eventstore.postgres.async_subject_keys import AsyncPostgresSubjectKeys
    from eventstore.postgres.migrations import migrate_subject_keys
    from eventstore.postgres.subject_keys import PostgresSubjectKeys

__all__ = [
    "AsyncInMemorySubjectKeys",
    "AsyncPostgresSubjectKeys",
    "AsyncSubjectKeys",
    "InMemorySubjectKeys",
    "KeyEncryption",
    "KeyRecord",
    "Personal",
    "PostgresSubjectKeys",
    "Sealed",
    "Subject",
    "SubjectForgotten",
    "SubjectKeys",
    "migrate_subject_keys",
]

_LAZY = {
    "AsyncPostgresSubjectKeys": "eventstore.postgres.async_subject_keys",
    "PostgresSubjectKeys": "eventstore.postgres.subject_keys",
    "migrate_subject_keys": "eventstore.postgres.migrations",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 only here

    return getattr(import_module(_LAZY[name]), name)
