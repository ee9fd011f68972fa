"""``python -m parcels.figures``, in this directory: what an append costs next to an insert of the ORM's, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from uuid import uuid4

from django.core.management import call_command
from django.db import connections, transaction
from psycopg.conninfo import conninfo_to_dict

from eventstore.contrib.django import event_store
from eventstore.postgres.embedded import EmbeddedServer
from parcels.events import ParcelPosted
from parcels.models import Note

BLOCKS, EACH = 200, 10


def append() -> None:
    event_store().append(f"Parcel-{uuid4()}", [ParcelPosted(destination="Utrecht")], 0)


def insert() -> None:
    Note.objects.create(text=str(uuid4()))


def compare(block: Callable[[], AbstractContextManager[object]]) -> str:
    """Alternately, so that both meet the same machine."""
    seconds: dict[Callable[[], None], list[float]] = {append: [], insert: []}
    for _ in range(BLOCKS):
        with block():
            for call in (append, insert) * EACH:
                started = time.perf_counter()
                call()
                seconds[call].append(time.perf_counter() - started)
    ours, theirs = statistics.median(seconds[append]), statistics.median(seconds[insert])
    return f"append {ours * 1e6:,.0f} µs, ORM insert {theirs * 1e6:,.0f} µs: {ours / theirs:.2f} times"


with EmbeddedServer() as server:  # durable, as in production
    where = {name.upper(): str(value) for name, value in conninfo_to_dict(server.dsn).items()}
    connections.settings["default"].update(where, NAME=where["DBNAME"])
    call_command("migrate", run_syncdb=True, verbosity=0)
    print("median, inside atomic():", compare(transaction.atomic))  # noqa: T201
    print("median, each by itself: ", compare(nullcontext))  # noqa: T201
    connections.close_all()
