"""Waiting for what another thread, process or server brings about."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 30.0
"""Seconds that a test waits for what should be there at once."""


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it holds at last.

    A session is in pg_stat_activity, for example, until its server process has noticed that the client is gone.
    """
    deadline = time.monotonic() + PATIENCE
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return holds
