"""``eventstore events``: lock what events are stored as, check the program against it, and read what is stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eventstore.cli.modules import look_here_as_well, module_named
from eventstore.cli.progress import Progress
from eventstore.cli.telling import complain
from eventstore.codec.showing import cleaned, cleaned_json
from eventstore.core.blocking import run
from eventstore.core.operations import LogReader
from eventstore.core.verifying import Verification
from eventstore.errors import EventsLockError, InvalidArgument
from eventstore.event_types import event_class, is_ignored
from eventstore.eventlock import compared, described_program, read_lock, text_of
from eventstore.postgres import PostgresEventStore

_PAGE = 1000


def lock(path: Path, modules: Sequence[str], *, force: bool) -> int:
    """Write the lock file. Exit code 1, and nothing written, where stored bytes would not survive what has changed."""
    look_here_as_well()
    before = None
    if path.exists():
        try:
            before = read_lock(path)
        except EventsLockError:
            if not force:
                raise
    if before is None and not modules:
        raise InvalidArgument(f"{path} does not exist yet: name the modules that define the events")
    if before is not None and not force:
        problems = [finding for finding in compared(before, modules) if finding.is_problem]
        for problem in problems:
            print(cleaned(str(problem)))
        if problems:
            complain(f"{path} was not written: fix these, or use --force if nothing of it was ever stored")
            return 1
    found = described_program(modules or (before.modules if before else ()), before)
    try:
        path.write_text(text_of(found), "utf-8")
    except OSError as error:
        raise EventsLockError(str(path), f"it can't be written: {error.strerror or error}") from error
    samples = sum(len(packed) for each in found.types.values() for packed in each.samples.values())
    print(cleaned(f"{path}: {len(found.types):,} types with {samples:,} samples"))
    return 0


def check(path: Path, modules: Sequence[str]) -> int:
    """Compare the program with the lock file. Exit code 1 where stored bytes do not survive what has changed."""
    look_here_as_well()
    before = read_lock(path)
    findings = compared(before, modules)
    for finding in findings:
        print(cleaned(str(finding)))
    problems = sum(finding.is_problem for finding in findings)
    if problems:
        complain(f"{problems} change(s) that stored events do not survive")
        return 1
    what = "as it was locked" if not findings else "stored events survive; `eventstore events lock` writes it down"
    print(cleaned(f"{path}: {len(before.types):,} types, {what}"))
    return 0


def verify(
    dsn: str, schema: str, modules: Sequence[str], from_position: int, *, allow_unknown: bool, as_json: bool
) -> int:
    """Read what is stored. Exit code 1 if anything can't be read, or has no class here."""
    for name in modules:
        module_named(name)
    found = Verification()
    with PostgresEventStore.connect(dsn, schema, max_size=1, prepare=False) as store:
        reader = LogReader(from_position, _PAGE, None, None, None, strict=False, backwards=False, limit=None)
        page = run(reader.next_page(), store.execute)
        with Progress("reading", total=max((reader.upto or 0) - from_position, 1)) as progress:
            before = from_position
            while page:
                found.take(page)
                progress.advance(len(page), found.position - before)
                before = found.position
                page = run(reader.next_page(), store.execute)
    if as_json:
        print(cleaned_json(json.dumps(_as_json(found), ensure_ascii=False)))
    else:
        _show(found)
    unknown = 0 if allow_unknown else len(found.unknown_types)
    if found.unreadable or unknown:
        complain(f"{found.unreadable:,} events can't be read, and {unknown:,} type(s) have no class here")
        return 1
    return 0


def _as_json(found: Verification) -> dict[str, Any]:
    return {
        "events": found.events,
        "position": found.position,
        "unreadable": found.unreadable,
        "types": [
            {
                "event_type": event_type,
                "revision": revision,
                "events": count,
                "unreadable": found.unreadable_of(event_type, revision),
                "class": _class_of(event_type),
            }
            for (event_type, revision), count in sorted(found.types.items())
        ],
        "errors": [vars(trouble) for trouble in found.troubles],
        "unknown_types": found.unknown_types,
        "missing_names": [{"name": name, "first_position": at} for name, at in sorted(found.missing.items())],
    }


def _class_of(event_type: str) -> str | None:
    cls = event_class(event_type)
    return None if cls is None else f"{cls.__module__}.{cls.__qualname__}"


def _show(found: Verification) -> None:
    print(f"{'EVENTS':>12}  {'UNREADABLE':>10}  {'REVISION':>8}  TYPE")
    for (event_type, revision), count in sorted(found.types.items()):
        note = "" if event_class(event_type) else "  (ignored)" if is_ignored(event_type) else "  (no class here)"
        unreadable = found.unreadable_of(event_type, revision)
        print(cleaned(f"{count:>12,}  {unreadable:>10,}  {revision:>8}  {event_type}{note}"))
    for trouble in found.troubles:
        first = f"first at position {trouble.first_position:,}: {trouble.first_error}"
        print(
            cleaned(f"{trouble.events:,} of {trouble.event_type}, revision {trouble.revision}: {trouble.kind}, {first}")
        )
    for name, position in sorted(found.missing.items()):
        print(cleaned(f"no class is registered as {name!r}: first at position {position:,}"))
    print(f"{found.events:,} events, up to position {found.position:,}; {found.unreadable:,} can't be read")
