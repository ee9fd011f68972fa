"""``eventstore subjects``: what is known of the subjects of personal data, and what becomes of them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, cast

import psycopg
from psycopg.sql import SQL

from eventstore.cli.modules import object_named
from eventstore.cli.subject_commands import keys_dsn
from eventstore.cli.telling import complain
from eventstore.codec.showing import cleaned, cleaned_json
from eventstore.core.requests import SubjectStreams
from eventstore.core.subject_keys import KeyRecord, SubjectKeys
from eventstore.errors import InvalidArgument, InvalidOperation, SubjectKeyError
from eventstore.names import check_subject
from eventstore.postgres import PostgresEventStore
from eventstore.postgres.failures import translated
from eventstore.postgres.migrations import migrate_subject_keys
from eventstore.postgres.statements.schema import in_parameterized
from eventstore.postgres.subject_keys import PostgresSubjectKeys

_KEY, _FORMER = "EVENTSTORE_KEY_ENCRYPTION_KEY", "EVENTSTORE_FORMER_KEY_ENCRYPTION_KEYS"
_SNAPSHOTS = SQL("""
    SELECT aggregate_type, aggregate_id, snapshots.version
    FROM {schema}.snapshots JOIN {schema}.subject_streams
        ON aggregate_type = pg_catalog.split_part(stream_id, '-'::text, 1)
        AND aggregate_id = pg_catalog.substr(stream_id, pg_catalog.length(aggregate_type) + 2)
    WHERE subject = %s::text ORDER BY aggregate_type, aggregate_id, snapshots.version
""")
_SUBSCRIPTIONS = SQL("""
    SELECT name, position FROM {schema}.subscription_status
    WHERE position >= (
        SELECT pg_catalog.min(position) FROM {schema}.events
        WHERE version = 1 AND stream_id IN (SELECT stream_id FROM {schema}.subject_streams WHERE subject = %s::text)
    )
    ORDER BY name
""")
"""Those that have passed the first event of a stream of the subject: what their filters left out is not known."""


class _NoKeyEncryption:
    """Stands for the key-encryption key where no key is unwrapped."""

    name = "none"

    def wrap(self, key: bytes, subject: str) -> bytes:  # noqa: ARG002 the interface's
        raise SubjectKeyError(subject, f"there is no key-encryption key: set {_KEY}")

    def unwrap(self, wrapped: bytes, subject: str) -> bytes:  # noqa: ARG002
        raise SubjectKeyError(subject, f"there is no key-encryption key: set {_KEY}")


@contextmanager
def opened(
    args: argparse.Namespace, dsn: str, *, rotates: bool = False
) -> Generator[tuple[PostgresEventStore, SubjectKeys], None, None]:
    """The store, with the keys that the arguments name. ``rotates``: a key-encryption key must be there."""
    with ExitStack() as stack:
        keys: SubjectKeys | None = args.subject_keys
        if args.keys is not None:
            keys = _of_the_application(args.keys)
        if keys is None:
            wrap = _secret(_KEY, os.environ.get(_KEY, ""))
            if wrap is None and rotates:
                raise InvalidOperation(f"there is no key-encryption key: set {_KEY} to its 64 hexadecimal digits")
            former = [_secret(_FORMER, each) for each in os.environ.get(_FORMER, "").split(",")]
            keys = stack.enter_context(
                PostgresSubjectKeys.connect(
                    keys_dsn(args, dsn),
                    wrap=wrap or _NoKeyEncryption(),
                    formerly=[each for each in former if each is not None],
                    schema=args.keys_schema,
                    max_size=1,
                    prepare=False,
                )
            )
        store = PostgresEventStore.connect(dsn, args.schema, max_size=1, prepare=False, subject_keys=keys)
        yield stack.enter_context(store), keys


def _secret(name: str, digits: str) -> bytes | None:
    digits = digits.strip()
    if not digits:
        return None
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise InvalidArgument(f"{name} must be 64 hexadecimal digits, and has something else in it") from None


def _of_the_application(target: str) -> SubjectKeys:
    if not all(target.partition(":")):
        raise InvalidArgument(f"{target!r} must be MODULE:NAME, such as shop.keys:subject_keys")
    found = object_named(target, "a SubjectKeys")
    if not isinstance(found, SubjectKeys):
        raise InvalidArgument(f"{target!r} is not a SubjectKeys of eventstore.privacy")
    return found


class _Traces(NamedTuple):
    """Where a subject occurs."""

    streams: list[str]
    snapshots: list[tuple[str, str, int]]
    subscriptions: list[tuple[str, int]]


def show(store: PostgresEventStore, keys: SubjectKeys, subject: str, *, as_json: bool) -> int:
    """Print what is known of a subject; exit code 1 if that is nothing."""
    subject = check_subject("SUBJECT", subject)
    record, streams = keys.record(subject), store.execute(SubjectStreams(subject))
    if record is None and not streams:
        complain(f"nothing is known of the subject {subject!r}: it has no key, and no stream holds data of it")
        return 1
    if as_json:
        _print_json(_as_dict(subject, record) | {"streams": streams})
        return 0
    print(_line(record or KeyRecord(subject, None, None, None, None)))
    for stream_id in streams:
        print(cleaned(f"  stream {stream_id}"))
    return 0


def traces(store: PostgresEventStore, keys: SubjectKeys, subject: str, *, as_json: bool) -> int:
    """Print what holds personal data of a subject, or has seen it."""
    subject = check_subject("SUBJECT", subject)
    record, found = keys.record(subject), _traces(store, subject)
    if as_json:
        snapshots = [{"aggregate_type": t, "aggregate_id": i, "version": v} for t, i, v in found.snapshots]
        subscriptions = [{"name": name, "position": position} for name, position in found.subscriptions]
        _print_json(
            _as_dict(subject, record)
            | {"streams": found.streams, "snapshots": snapshots, "subscriptions": subscriptions}
        )
        return 0
    print(_line(record or KeyRecord(subject, None, None, None, None)))
    lines = [f"  stream {stream_id}" for stream_id in found.streams]
    lines += [f"  snapshot {kind} {name} at version {version}" for kind, name, version in found.snapshots]
    lines += [
        f"  subscription {name} at position {position}, may have seen it" for name, position in found.subscriptions
    ]
    for line in lines:
        print(cleaned(line))
    return 0


def forget(
    store: PostgresEventStore,
    keys: SubjectKeys,
    subject: str,
    reason: str,
    *,
    is_sure: bool,
    may_be_unknown: bool,
    as_json: bool,
) -> int:
    """Forget a subject. Asks first, on a terminal."""
    subject = check_subject("SUBJECT", subject)
    streams = store.execute(SubjectStreams(subject))
    if not (streams or may_be_unknown or keys.record(subject)):
        complain(
            f"nothing is known of the subject {subject!r}, so nothing was forgotten: look for the right text with "
            "`eventstore subjects list`, or say --unknown to have it forgotten before it is recorded"
        )
        return 1
    what = f"the subject {subject!r}, whose personal data is in {len(streams):,} stream(s)"
    if not is_sure:
        if not sys.stdin.isatty():
            complain(f"this would forget {what}: say --yes")
            return 1
        print(cleaned(f"Forget {what}? Its data can't be read again. [y/N] "), end="", flush=True)
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            print("Nothing was forgotten.")
            return 1
    version = store.forget(subject, reason)
    if as_json:
        _print_json(
            {"subject": subject, "position": version.position, "repeated": version.repeated, "streams": streams}
        )
        return 0
    before = "had forgotten" if version.repeated else "forgot"
    print(cleaned(f"{before} {what} (position {version.position}); other processes may read it for {keys.key_ttl:g} s"))
    return 0


def rotate(keys: SubjectKeys, *, as_json: bool) -> int:
    """Wrap all keys by the present key-encryption key."""
    count = keys.rewrap()
    if as_json:
        _print_json({"rewrapped": count})
    else:
        print(f"wrapped {count:,} key(s) by the present key-encryption key")
    return 0


def listing(keys: SubjectKeys, after: str, limit: int | None, *, as_json: bool) -> int:
    """Print the subjects in the order of their texts."""
    for number, record in enumerate(_records(keys, after), 1):
        if limit is not None and number > limit:
            break
        if as_json:
            _print_json(_as_dict(record.subject, record))
        else:
            print(_line(record))
    return 0


def migrate(dsn: str, schema: str) -> int:
    """Bring the schema of the keys up to date, and say what was done."""
    applied = migrate_subject_keys(dsn, schema)
    up_to_date = f"schema {schema!r} is up to date"
    print(cleaned(f"schema {schema!r}: applied {', '.join(applied)}" if applied else up_to_date))
    return 0


def _records(keys: SubjectKeys, after: str) -> Iterator[KeyRecord]:
    while page := keys.records(after):
        yield from page
        after = page[-1].subject


def _traces(store: PostgresEventStore, subject: str) -> _Traces:
    with store.transaction() as transaction:
        connection = transaction.connection
        schema = in_parameterized(store.statements.schema)
        streams = transaction.execute(SubjectStreams(subject))
        try:
            with psycopg.Cursor(connection) as cursor:
                snapshots = cursor.execute(_SNAPSHOTS.format(schema=schema), (subject,)).fetchall()
                subscriptions = cursor.execute(_SUBSCRIPTIONS.format(schema=schema), (subject,)).fetchall()
        except psycopg.Error as error:
            raise translated(error, broken=connection.broken, schema=store.statements.schema) from error
    return _Traces(streams, cast("Any", snapshots), cast("Any", subscriptions))


def _line(record: KeyRecord) -> str:
    if record.forgotten_at is not None:
        reason = f": {record.reason}" if record.reason else ""
        state = f"forgotten {record.forgotten_at.isoformat(' ', 'seconds')}{reason}"
    elif record.created_at is not None:
        state = f"has a key since {record.created_at.isoformat(' ', 'seconds')}, wrapped by {record.wrapped_by}"
    else:
        state = "has no key"
    return cleaned(f"{record.subject}  {state}")


def _as_dict(subject: str, record: KeyRecord | None) -> dict[str, Any]:
    found = record or KeyRecord(subject, None, None, None, None)
    created, forgotten = found.created_at, found.forgotten_at
    return {
        **found._asdict(),
        "created_at": created and created.isoformat(),
        "forgotten_at": forgotten and forgotten.isoformat(),
    }


def _print_json(value: dict[str, Any]) -> None:
    print(cleaned_json(json.dumps(value, ensure_ascii=False)))
