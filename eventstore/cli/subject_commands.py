"""The arguments of ``eventstore subjects …``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any, TypeAlias

from eventstore.cli import actions, arguments

_Commands: TypeAlias = "argparse._SubParsersAction[Any]"
_KEYS_SCHEMA = "eventstore_keys"


def add(commands: _Commands, database: argparse.ArgumentParser) -> None:
    """Add the command."""
    subjects = commands.add_parser(
        "subjects",
        help="see and forget the subjects of personal data, and rotate what wraps their keys",
        description=(
            "The subjects of personal data, their keys, and what is left of them. The keys are in the table of a "
            "PostgresSubjectKeys, or in a SubjectKeys that --keys names. `rotate` needs the key-encryption key, as 64 "
            "hexadecimal digits in the environment's EVENTSTORE_KEY_ENCRYPTION_KEY."
        ),
    )
    subcommands = subjects.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)

    def action(name: str, what: str, run: Callable[[argparse.Namespace, str], int]) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = subcommands.add_parser(
            name, help=what, description=f"{what[0].upper()}{what[1:]}.", parents=[database, _keys()]
        )

        def called(args: argparse.Namespace) -> int:
            return run(args, actions.dsn(args))

        made.set_defaults(run=called)
        return made

    show = action("show", "print what is known of a subject, and the streams that hold its personal data", _show)
    forget = action("forget", "forget a subject: destroy its key, and say so in the log", _forget)
    rotate = action("rotate", "wrap all keys by the present key-encryption key", _rotate)
    listing = action("list", "list the subjects, in the order of their texts", _list)
    action("migrate", "create the schema of the keys, or bring it up to date", _migrate)
    forget.description = (
        "Forget a subject. Its key is destroyed, the snapshots of its streams are deleted, and a SubjectForgotten "
        "event stands in the log. It can't be undone. Running processes may still read its data for as long as they "
        "remember the key (key_ttl, 60 seconds unless they say otherwise)."
    )
    rotate.description = (
        "Wrap every key by the key-encryption key in EVENTSTORE_KEY_ENCRYPTION_KEY. Those that wrap keys now are in "
        "EVENTSTORE_FORMER_KEY_ENCRYPTION_KEYS, separated by commas. Events are not touched. Afterwards the former "
        "ones can be destroyed, and nothing in older backups of the keys can be unwrapped any more."
    )
    for each in (show, forget):
        each.add_argument("subject", metavar="SUBJECT", help="the subject's text; of a UUID, its usual form")
    forget.add_argument("--reason", default="", metavar="TEXT", help="why, for the log and the key store")
    forget.add_argument("--dry-run", action="store_true", help="only print what holds its data, or has seen it")
    forget.add_argument("--yes", action="store_true", help="don't ask for confirmation")
    forget.add_argument(
        "--unknown", action="store_true", help="also if nothing is known of it, so that it can never be recorded"
    )
    listing.add_argument("--after", default="", metavar="SUBJECT", help="only subjects after this one")
    listing.add_argument("--limit", type=arguments.count, metavar="N", help="at most N subjects")
    for each in (show, forget, rotate, listing):
        each.add_argument("--json", action="store_true", help="JSON lines" if each is listing else "one JSON object")


def _keys() -> argparse.ArgumentParser:
    keys = argparse.ArgumentParser(add_help=False)
    keys.add_argument(
        "--keys-dsn", help="the database of the keys (default: the environment's EVENTSTORE_KEYS_DSN, or the --dsn)"
    )
    keys.add_argument("--keys-schema", default=_KEYS_SCHEMA, help="the schema of the keys (default: %(default)s)")
    keys.add_argument(
        "--keys",
        metavar="MODULE:NAME",
        help="a SubjectKeys of the application, such as shop.keys:subject_keys, instead",
    )
    return keys


def keys_dsn(args: argparse.Namespace, dsn: str) -> str:
    """The database of the keys."""
    found: str = args.keys_dsn or os.environ.get("EVENTSTORE_KEYS_DSN") or dsn
    return found


# --- the commands: their modules are imported when they run -----------------------------------------------------------


def _show(args: argparse.Namespace, dsn: str) -> int:
    from eventstore.cli import subjects  # noqa: PLC0415

    with subjects.opened(args, dsn) as (store, keys):
        return subjects.show(store, keys, args.subject, as_json=args.json)


def _forget(args: argparse.Namespace, dsn: str) -> int:
    from eventstore.cli import subjects  # noqa: PLC0415

    with subjects.opened(args, dsn) as (store, keys):
        if args.dry_run:
            return subjects.traces(store, keys, args.subject, as_json=args.json)
        return subjects.forget(
            store,
            keys,
            args.subject,
            args.reason,
            is_sure=args.yes,
            may_be_unknown=args.unknown,
            as_json=args.json,
        )


def _rotate(args: argparse.Namespace, dsn: str) -> int:
    from eventstore.cli import subjects  # noqa: PLC0415

    with subjects.opened(args, dsn, rotates=True) as (_, keys):
        return subjects.rotate(keys, as_json=args.json)


def _list(args: argparse.Namespace, dsn: str) -> int:
    from eventstore.cli import subjects  # noqa: PLC0415

    with subjects.opened(args, dsn) as (_, keys):
        return subjects.listing(keys, args.after, args.limit, as_json=args.json)


def _migrate(args: argparse.Namespace, dsn: str) -> int:
    from eventstore.cli import subjects  # noqa: PLC0415

    return subjects.migrate(keys_dsn(args, dsn), args.keys_schema)
