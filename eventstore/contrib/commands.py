"""The command line where a framework knows the database and the subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from eventstore.cli import DATABASE_COMMANDS, main
from eventstore.cli.telling import complain
from eventstore.core.subject_keys import SubjectKeys
from eventstore.errors import EventStoreError

_WITH_WORKERS = {"rebuild", "retry", "run"}


def run(
    arguments: Sequence[str],
    dsn: Callable[[], str],
    schema: str,
    targets: Mapping[str, str],
    subject_keys: Callable[[], SubjectKeys | None],
) -> int:
    """Run ``eventstore ...`` and return its exit code.

    Its ``--dsn`` and ``--schema`` are these. ``targets`` has the ``MODULE:NAME`` of subscriptions by their names, which
    may be given instead; ``run`` alone runs them all.
    """
    command, *rest = arguments or ["--help"]
    action = rest[:1] if command in {"events", "subjects"} else []
    keys: SubjectKeys | None = None
    if command in DATABASE_COMMANDS or action == ["verify"] or (command == "subjects" and action):
        where: list[str] = []
        if "-h" not in rest and "--help" not in rest:
            try:
                where = ["--dsn", dsn()]
                keys = subject_keys() if command == "subjects" else None
            except EventStoreError as error:
                complain(error)
                return 1
        if command != "drop":  # Nobody drops the store of the project without naming it.
            where += ["--schema", schema]
        rest = [*action, *where, *rest[len(action) :]]
    elif command in _WITH_WORKERS:
        named = rest if command == "run" else rest[:1]
        for name in named:
            if targets and ":" not in name and not name.startswith("-") and name not in targets:
                there = ", ".join(map(repr, sorted(targets)))
                complain(f"there is no subscription {name!r}: there are {there}")
                return 1
        rest = [targets.get(argument, argument) for argument in rest]
        if command == "run" and not rest:
            rest = list(targets.values())
            if not rest:
                complain("there is no subscription to run")
                return 1
    return main([command, *rest], subject_keys=keys)
