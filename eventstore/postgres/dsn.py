"""Data source names, checked where they come in. They may hold a password, so no error repeats any part of one."""

from __future__ import annotations

import os
import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from eventstore.errors import InvalidArgument

_FORMS = "write postgresql://user@host/database, or host=... dbname=... user=..."
OPTIONS: dict[str, Any] = {"autocommit": True, "client_encoding": "UTF8"}
"""What connections of the library's own need."""
_LIVELINESS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
"""Without these a network that swallows everything is noticed after minutes: seconds, and milliseconds for the last."""
_PASSWORDS = re.compile(r"(?<=://)([^\s:/@]*):\S*@|(password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE)


def checked_dsn(dsn: object) -> str:
    """A DSN that libpq understands. Raises InvalidArgument, which says nothing of what is in it."""
    if not isinstance(dsn, str):
        raise InvalidArgument(f"the DSN must be a str, not {type(dsn).__name__}: {_FORMS}")
    fault = _fault(dsn)
    # Raised here, not where the driver's error is at hand: that would be its context, with the DSN in its text.
    if fault is not None:
        raise InvalidArgument(f"the DSN is malformed: {fault}")
    return dsn


def _fault(dsn: str) -> str | None:
    if re.match(r"postgres(ql)?\+\w+:", dsn):
        return "it is of SQLAlchemy's form; write postgresql:// without the driver's name"
    if "\0" in dsn:
        return _FORMS
    try:
        parameters = conninfo_to_dict(dsn)
    except psycopg.Error:
        return _FORMS
    # A special character in a password, as it stands, ends up in these, and so in the server's or the driver's errors.
    # Hosts that begin with / or @ are directories of sockets and abstract sockets.
    hosts, ports = str(parameters.get("host", "")).split(","), str(parameters.get("port", ""))
    if any("@" in host for host in hosts if not host.startswith(("/", "@"))) or not re.fullmatch(r"[0-9,]*", ports):
        return "percent-encode special characters in its user name and password, such as %40 for @"
    return None


def own_options(dsn: str, *, prepare: bool = True) -> dict[str, Any]:
    """The options of connections of the library's own: what a DSN, or the environment, says itself is left out."""
    said = conninfo_to_dict(dsn)
    options = {name: value for name, value in _LIVELINESS.items() if name not in said}
    if "connect_timeout" in options and "PGCONNECT_TIMEOUT" in os.environ:
        options["connect_timeout"] = os.environ["PGCONNECT_TIMEOUT"]
    if not prepare:
        options["prepare_threshold"] = None  # Not even where a statement asks for it.
    return OPTIONS | options


def without_passwords(text: str) -> str:
    """A text in which a DSN may occur, as something that may be shown."""
    return _PASSWORDS.sub(lambda found: f"{found[1]}:***@" if found[1] is not None else f"{found[2]}***", text)
