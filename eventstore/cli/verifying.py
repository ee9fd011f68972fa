"""``eventstore verify``: whether what a store holds is whole."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import psycopg

from eventstore.aggregate import Aggregate
from eventstore.cli.modules import object_named
from eventstore.cli.progress import Progress
from eventstore.cli.telling import complain
from eventstore.codec.showing import cleaned, cleaned_json
from eventstore.core.checking import Finding, LogCheck, as_json, compare_states
from eventstore.core.records import decode_each
from eventstore.core.snapshots import snapshot_of
from eventstore.errors import AccessDenied, EventStoreError, InvalidArgument
from eventstore.postgres.checks import Checks
from eventstore.postgres.failures import translated
from eventstore.postgres.migrations import connected
from eventstore.postgres.objects import compare_objects
from eventstore.repository import Repository
from eventstore.store import Snapshot


class _Report:
    """Tells each finding as it is found: however many there are, none is kept."""

    def __init__(self, *, as_json: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.not_checked: list[str] = []
        self._as_json = as_json

    def tell(self, finding: Finding) -> None:
        self.counts[finding.kind] += 1
        shown = json.dumps(as_json(finding), ensure_ascii=False) if self._as_json else str(finding)
        print(cleaned_json(shown) if self._as_json else cleaned(shown), flush=True)

    def end(self, log: LogCheck) -> int:
        """Sum up, and return the exit code."""
        found = sum(self.counts.values())
        if self._as_json:
            summary = {
                "events": log.events,
                "position": log.position,
                "findings": found,
                "kinds": dict(sorted(self.counts.items())),
                "not_checked": self.not_checked,
            }
            print(cleaned_json(json.dumps(summary, ensure_ascii=False)))
        else:
            print(f"{log.events:,} events, up to position {log.position:,}: {found:,} finding(s)")
        return 1 if found else 0

    def skip(self, what: str, why: object) -> None:
        self.not_checked.append(f"{what}: {why}")
        if not self._as_json:
            complain(f"not checked: {what}: {why}")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is to be checked, and how."""

    stream_id: str | None
    """Only this stream."""
    since_position: int
    """Only events above it."""
    repositories: Sequence[str]
    """Whose snapshots are compared with a replay, each as MODULE:NAME."""
    rate: int | None
    """Events a second, at most."""
    prefix: str | None
    """That of the roles."""
    as_json: bool


def verify(dsn: str, schema: str, options: Options) -> int:
    """Check a store. Exit code 1 if anything is not as it must be."""
    classes = {cls.category: cls for cls in map(_class_of, options.repositories)}
    report = _Report(as_json=options.as_json)
    with connected(dsn) as connection:
        connection.autocommit = True
        checks = Checks(connection, schema)
        try:
            log = _check_events(checks, options, report)
            for finding in _check_snapshots(checks, options.stream_id, classes):
                report.tell(finding)
            if options.stream_id is None:
                _check_store(checks, connection, schema, options.prefix or schema, report)
        except psycopg.Error as error:
            raise translated(error, broken=connection.broken, schema=schema) from error
    return report.end(log)


def _check_events(checks: Checks, options: Options, report: _Report) -> LogCheck:
    since, upto = options.since_position, checks.end()
    log = LogCheck(since)
    with Progress("verifying", total=None if options.stream_id else max(upto - since, 1)) as progress:
        started = time.monotonic()
        for page in checks.pages(since, upto, options.stream_id):
            before = log.position
            for finding in log.take(page):
                report.tell(finding)
            progress.advance(len(page), max(log.position - before, 0))
            if options.rate is not None:
                time.sleep(max(started + log.events / options.rate - time.monotonic(), 0))
    return log


def _check_snapshots(
    checks: Checks, stream_id: str | None, classes: dict[str, type[Aggregate[Any]]]
) -> Iterator[Finding]:
    for snapshot, found in checks.snapshots(stream_id):
        cls = classes.get(snapshot.aggregate_type)
        finding = _replayed(checks, cls, snapshot) if found is None and cls is not None else found
        if finding is not None:
            yield finding


def _check_store(
    checks: Checks, connection: psycopg.Connection[Any], schema: str, prefix: str, report: _Report
) -> None:
    """What is checked of a store beside its events."""
    parts: dict[str, Callable[[], Iterator[Finding]]] = {
        "the sequence": checks.sequence,
        "checkpoints": checks.checkpoints,
        "parked events": checks.parked,
        "archived streams": checks.archived,
    }
    if checks.is_standby():
        report.skip("the schema and its grants", "a standby can't make another schema to compare with")
    else:
        parts["the schema and its grants"] = lambda: compare_objects(connection, schema, prefix)
    for what, run in parts.items():
        try:
            for finding in run():
                report.tell(finding)
        except (psycopg.errors.InsufficientPrivilege, AccessDenied) as error:
            report.skip(what, str(error).partition("\n")[0])


def _class_of(name: str) -> type[Aggregate[Any]]:
    found = object_named(name, "a repository")
    if not isinstance(found, Repository):
        raise InvalidArgument(f"{name!r} is not a Repository of eventstore")
    return cast("Repository[Any]", found)._operations._type


def _replayed(checks: Checks, cls: type[Aggregate[Any]], snapshot: Snapshot) -> Finding | None:
    """Compare a snapshot with a replay of the events up to its version, if it is of the class as it is now."""
    if snapshot.class_schema != cls.class_schema():
        return None
    try:
        rows = checks.replayed_rows(f"{cls.category}-{snapshot.aggregate_id}", snapshot.version)
        aggregate = cls.from_events(snapshot.aggregate_id, decode_each(rows, strict=False))
        if aggregate._subjects:  # Its state holds personal data, which is sealed here.
            return None
        return compare_states(snapshot, snapshot_of(aggregate))
    except EventStoreError as error:
        where = f"of {snapshot.aggregate_type} {snapshot.aggregate_id}, at version {snapshot.version}"
        return Finding("replay", where, f"the events can't be replayed: {error}")
