"""The settings, each with its default, and what follows from them."""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
from django.utils.module_loading import import_string
from psycopg.conninfo import make_conninfo

from eventstore.core.arguments import check_instance
from eventstore.core.deadlines import DEFAULT_TIMEOUT
from eventstore.core.subject_keys import SubjectKeys
from eventstore.errors import InvalidArgument
from eventstore.postgres.statements import check_schema

PREFIX = "EVENTSTORE_"
DEFAULTS: dict[str, Any] = {
    "DATABASE": DEFAULT_DB_ALIAS,  # the alias in DATABASES of the database that the store is in
    "SCHEMA": "eventstore",  # the schema of the store in that database
    "SCHEMA_RESOLVER": None,  # the dotted path to a function that returns the schema of now; None: SCHEMA
    "SNAPSHOT_FREQUENCY": 100,  # versions between two snapshots of an aggregate; None: no snapshots
    "NOTIFY": False,  # whether workers in other processes are woken after commits, by a NOTIFY
    "TIMEOUT": DEFAULT_TIMEOUT,  # seconds that a call of a store may take in all; None: as long as it takes
    "SUBJECT_KEYS": None,  # the keys of personal data: a SubjectKeys, or the dotted path to one; None: there are none
    "EVENTS_LOCK": None,  # the path of the lock file that `eventstore events lock` writes; None: there is none
}


def setting(name: str) -> Any:
    """What the project says, or the default."""
    return getattr(settings, PREFIX + name, DEFAULTS[name])


def subject_keys() -> SubjectKeys | None:
    """The keys of personal data. Raises InvalidArgument if the setting leads to nothing of the kind."""
    found: object = setting("SUBJECT_KEYS")
    if isinstance(found, str):
        try:
            found = import_string(found)
        except ImportError as error:
            raise InvalidArgument(f"EVENTSTORE_SUBJECT_KEYS is {found!r}: {error}") from error
    if found is not None:
        check_instance("EVENTSTORE_SUBJECT_KEYS", found, SubjectKeys)
    return cast("SubjectKeys | None", found)


def schema() -> str:
    """The schema of the store now: a tenant's, if there is a resolver. Raises InvalidArgument."""
    found: object = setting("SCHEMA_RESOLVER")
    if found is None:
        return str(setting("SCHEMA"))
    if isinstance(found, str):
        try:
            found = import_string(found)
        except ImportError as error:
            raise InvalidArgument(f"EVENTSTORE_SCHEMA_RESOLVER is {found!r}: {error}") from error
    if not callable(found):
        raise InvalidArgument(f"EVENTSTORE_SCHEMA_RESOLVER is {found!r}: it must be a function that returns a schema")
    return check_schema(found())


def db_table(name: str) -> str:
    """A table of the store's schema, as a model's ``db_table``: Django puts one pair of quotes around it."""
    schema = str(setting("SCHEMA")).replace('"', '""')
    return f'{schema}"."{name}'


def conninfo(using: str) -> str:
    """How to get a connection of one's own to where an alias leads: at the time of the call, so in tests to theirs."""
    wrapper = connections[using]
    parameters: dict[str, Any] = wrapper.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    role = wrapper.settings_dict.get("OPTIONS", {}).get("assume_role")
    if role:
        parameters["options"] = f"{parameters.get('options', '')} -c role={role}".strip()
    return make_conninfo(**parameters)


def is_test_database(using: str) -> bool:
    """Whether an alias leads to a database that has the name of its test database."""
    settings = connections[using].settings_dict
    return str(settings["NAME"]).startswith(settings["TEST"]["NAME"] or TEST_DATABASE_PREFIX)


def database_name(using: str) -> str:
    """The name of the database that an alias leads to."""
    return str(connections[using].settings_dict["NAME"])
