"""System checks: a wrong setting is named when the project starts, not when the first event comes."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 Django's name
from django.db import connections

from eventstore.contrib.django.conf import DEFAULTS, PREFIX, setting, subject_keys
from eventstore.core.deadlines import checked_timeout
from eventstore.errors import EventStoreError, InvalidArgument
from eventstore.eventlock import compared, read_lock
from eventstore.postgres.statements import check_schema


def check_settings(**_: Any) -> list[CheckMessage]:
    """What is wrong with the settings."""
    return [
        *_check_database(),
        *_check_schema(),
        *_check_values(),
        *_check_subject_keys(),
        *_check_names(),
        *_check_events(),
    ]


def _check_database() -> Iterator[CheckMessage]:
    using = setting("DATABASE")
    if using not in connections:
        yield Error(
            f"EVENTSTORE_DATABASE is {using!r}, which is not an alias in DATABASES.",
            hint=f"There are: {', '.join(connections)}.",
            id="eventstore.E001",
        )
    elif connections[using].vendor != "postgresql":
        yield Error(
            f"EVENTSTORE_DATABASE is {using!r}, which is not a PostgreSQL database but "
            f"{connections[using].display_name}.",
            hint="Give DATABASES an alias of a PostgreSQL database, and name it.",
            id="eventstore.E002",
        )


def _check_schema() -> Iterator[CheckMessage]:
    schema = setting("SCHEMA")
    try:
        check_schema(schema)
    except EventStoreError as error:
        yield Error(f"EVENTSTORE_SCHEMA is wrong: {error}.", id="eventstore.E003")
    else:
        if "%" in schema:
            yield Error(
                f"EVENTSTORE_SCHEMA is {schema!r}: Django would take the percent sign for a parameter.",
                id="eventstore.E003",
            )


def _check_values() -> Iterator[CheckMessage]:
    frequency = setting("SNAPSHOT_FREQUENCY")
    if frequency is not None and (type(frequency) is not int or frequency < 1):
        yield Error(
            f"EVENTSTORE_SNAPSHOT_FREQUENCY is {frequency!r}.",
            hint="A number of versions, at least 1; None for no snapshots.",
            id="eventstore.E004",
        )
    if not isinstance(setting("NOTIFY"), bool):
        yield Error(f"EVENTSTORE_NOTIFY is {setting('NOTIFY')!r}, neither True nor False.", id="eventstore.E005")
    try:
        checked_timeout(setting("TIMEOUT"), "EVENTSTORE_TIMEOUT")
    except EventStoreError as error:
        yield Error(f"{error}.", id="eventstore.E006")


def _check_subject_keys() -> Iterator[CheckMessage]:
    try:
        subject_keys()
    except InvalidArgument as error:
        yield Error(
            f"{error}.",
            hint="A SubjectKeys, or the dotted path to one, such as 'shop.keys.subject_keys'; None for no keys.",
            id="eventstore.E008",
        )


def _check_names() -> Iterator[CheckMessage]:
    known = [PREFIX + name for name in DEFAULTS]
    for name in dir(settings):
        if name.startswith(PREFIX) and name not in known:
            close = get_close_matches(name, known, n=1) or known
            yield Warning(
                f"{name} is not a setting of eventstore.", hint=f"Is it {' or '.join(close)}?", id="eventstore.W001"
            )


def _check_events() -> Iterator[CheckMessage]:
    path = setting("EVENTS_LOCK")
    if path is None:
        return
    if not isinstance(path, (str, Path)):
        yield Error(f"EVENTSTORE_EVENTS_LOCK is {path!r}, which is not a path.", id="eventstore.E006")
        return
    try:
        findings = compared(read_lock(Path(path)))
    except EventStoreError as error:
        yield Error(str(error), id="eventstore.E006")
        return
    for finding in findings:
        if finding.is_problem:
            yield Error(f"{finding.name}: {finding.text}.", id="eventstore.E007")
