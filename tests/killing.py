"""A command that kills its own process at the n-th step, between any two things that it does outside of its memory."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventstore.archives import places, writing
from eventstore.cli import archiving, main, restoring, store_connection

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_and_kill(left: int, arguments: Sequence[str]) -> None:
    """Run a command, and exit as it does unless it has had so many steps before its end."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == left:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(owner: Any, name: str) -> None:
        work = getattr(owner, name)

        def counting(*args: Any, **options: Any) -> Any:
            step()
            result = work(*args, **options)
            step()
            return result

        setattr(owner, name, counting)

    def half_written(place: places.Directory, name: str, content: bytes) -> None:
        nonlocal count
        count += 1
        if count == left:
            place._path.mkdir(parents=True, exist_ok=True)
            (place._path / name).write_bytes(content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(place, name, content)

    write = places.Directory.write
    places.Directory.write = half_written  # type: ignore[method-assign]
    counted(os, "fsync")
    counted(Path, "hardlink_to")
    counted(Path, "unlink")
    counted(places.Directory, "names")
    counted(store_connection.StoreConnection, "rows")
    counted(restoring, "copy_into")
    writing.PART_EVENTS, archiving._STREAMS = 12, 3
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 until the end of the process
    os._exit(main(list(arguments)))
