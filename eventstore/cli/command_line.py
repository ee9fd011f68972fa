"""The command line: ``eventstore …``, also ``python -m eventstore …``.

Exit codes: 0; 1 for a failure, which one line on stderr describes; 2 for an invalid command; 130 after Ctrl-C; 141 if
the reader of a pipe is gone.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from eventstore.cli.actions import USAGE, NoDatabase, dsn
from eventstore.cli.parser import parser_for
from eventstore.cli.telling import complain
from eventstore.errors import EventStoreError

_NOBODY = logging.NullHandler()
_FAILED, _INTERRUPTED, _PIPE_CLOSED = 1, 130, 141


def main(argv: Sequence[str] | None = None, *, subject_keys: object = None) -> int:
    """Run one command with these arguments (the process's own) and return its exit code.

    ``subject_keys`` are the keys of personal data, where a framework knows them.
    """
    _open_closed_output()
    # Whoever meets a lost connection says so; the pool's own log lines would only come on top. And nobody who looks at
    # pages has to know of requests that wait for a moment.
    for name in ("psycopg", "waitress.queue"):
        logging.getLogger(name).addHandler(_NOBODY)
    if reconfigure := getattr(sys.stdout, "reconfigure", None):  # whoever calls this may have put anything there
        reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is not a reason to fail
    try:
        code = _run(argv, subject_keys)
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up_output()
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        complain("interrupted")
        return _INTERRUPTED
    except EventStoreError as error:
        complain(error)
        return USAGE if isinstance(error, NoDatabase) else _FAILED
    except OSError as error:  # a full disk under the output, for one
        _give_up_output()
        complain(error)
        return _FAILED
    return code


def _open_closed_output() -> None:
    """Put something in place of a closed stream. Else a socket takes its number, and gets what others print there."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def _give_up_output() -> None:
    """Let nothing more be written: Python would try again at its end, and exit with another code."""
    with suppress(OSError):  # whoever calls main() may have put anything there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str] | None, subject_keys: object) -> int:
    parser = parser_for(exact="--exact" in (sys.argv[1:] if argv is None else argv))
    try:
        args = parser.parse_args(argv)
    except SystemExit as ended:  # argparse's way to say that it has said everything
        return ended.code if isinstance(ended.code, int) else USAGE
    if args.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    args.subject_keys = subject_keys
    if "*" in getattr(args, "schema", ""):
        from eventstore.cli import schemas  # noqa: PLC0415

        return schemas.run_for_each(args, dsn(args))
    code: int = args.run(args)
    return code
