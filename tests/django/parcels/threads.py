"""Threads that use Django's connections."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import connections
from waiting import PATIENCE


class Thread(threading.Thread):
    """A thread whose Django connections are closed at its end, and whose result is waited for."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 raised by whoever asks for the result
            self._error = error
        finally:
            with suppress(Exception):
                connections.close_all()

    def result(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive(), "the thread is still at work"
        if self._error is not None:
            raise self._error
        return self._result
