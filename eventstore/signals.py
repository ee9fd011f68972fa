"""Exceptions that a signal handler raised: they interrupt whatever runs, and belong to nobody there."""

from __future__ import annotations

import signal
from types import CodeType


def raised_by_a_signal(error: BaseException) -> bool:
    """Whether an error was raised in a handler of a signal, such as Celery's soft time limit.

    Whoever swallows all errors of something optional asks this first: what a signal raises is for the whole program.
    """
    handlers = {code for number in signal.valid_signals() if (code := _code_of(signal.getsignal(number))) is not None}
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers:
            return True
        traceback = traceback.tb_next
    return False


def _code_of(handler: object) -> CodeType | None:
    """The code of a function, a method, a partial or an object that is called."""
    handler = getattr(handler, "func", handler)
    for candidate in (handler, vars(type(handler)).get("__call__")):
        code = getattr(candidate, "__code__", None)
        if isinstance(code, CodeType):
            return code
    return None
