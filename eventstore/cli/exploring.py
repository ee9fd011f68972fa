"""``eventstore ui``: the explorer in a browser on this machine."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from threading import Event, Thread, Timer
from typing import Any, cast

from eventstore.aggregate import Aggregate
from eventstore.cli.modules import object_named
from eventstore.cli.telling import complain
from eventstore.errors import InvalidArgument
from eventstore.postgres import PostgresEventStore
from eventstore.repository import Repository

SAMPLED_EVERY = 10.0
"""Seconds between two looks at how far subscriptions are behind."""


def run(dsn: str, schema: str, port: int, targets: Sequence[str], *, opens_browser: bool) -> int:
    """Serve the explorer on the loopback interface until Ctrl-C."""
    if find_spec("flask") is None or find_spec("waitress") is None:
        complain("the explorer needs more packages: pip install 'pg-eventstore[explorer]'")
        return 1
    from eventstore.explorer import Explorer  # noqa: PLC0415 an extra

    aggregates = [_aggregate(target) for target in targets]
    with PostgresEventStore.connect(dsn, schema, max_size=4, prepare=False, timeout=30) as store:
        store.last_position()  # What is wrong with the database is said here, not on a page.
        try:
            create_server: Any = import_module("waitress.server").create_server  # It carries no types.
            explorer = Explorer(store, aggregates=aggregates)
            server = create_server(explorer, host="127.0.0.1", port=port, threads=4)
        except OSError as error:
            complain(f"port {port}: {error.strerror}: choose another by --port")
            return 1
        address = f"http://127.0.0.1:{server.effective_port}/"
        complain(f"the explorer is at {address}; Ctrl-C ends it")
        if opens_browser:
            timer = Timer(0.3, webbrowser.open, [address])
            timer.daemon = True
            timer.start()
        ended = Event()
        sampler = Thread(target=_sample, args=(explorer.sample, ended), daemon=True)
        sampler.start()
        try:
            server.run()
        finally:
            server.close()
            ended.set()
            sampler.join()
    return 0


def _sample(sample: Callable[[], None], ended: Event) -> None:
    while not ended.is_set():
        sample()
        ended.wait(SAMPLED_EVERY)


def _aggregate(target: str) -> type[Aggregate[Any]]:
    """The class that ``package.module:name`` names, or of whose repository it is the name."""
    found: Any = object_named(target, "a Repository or an Aggregate")
    if isinstance(found, Repository):
        found = cast("Any", found)._operations._type
    if not (isinstance(found, type) and issubclass(found, Aggregate)):
        raise InvalidArgument(f"{target!r} is not a Repository or an Aggregate of eventstore")
    return cast("type[Aggregate[Any]]", found)
