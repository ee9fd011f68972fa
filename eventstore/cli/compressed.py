"""Files of lines that are compressed as their names say: .gz, .zst, or not at all."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

from eventstore.core.exporting import ExportError
from eventstore.errors import InvalidArgument


@contextmanager
def opened(path: Path, mode: str, *, like: Path | None = None) -> Generator[IO[bytes], None, None]:
    """A file for reading ("rb") or writing ("wb"), compressed as the name of ``like`` says.

    Raises OSError; and ExportError where compressed data is cut off or damaged.
    """
    suffix = (like or path).suffix.lower()
    damaged: tuple[type[Exception], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
    try:
        if suffix == ".zst":
            zstd = _zstd()
            damaged = (EOFError, zstd.ZstdError)
            with zstd.open(path, mode) as file:
                yield io.BufferedReader(file) if mode == "rb" else file  # zstandard's own reader knows no lines.
            return
        with path.open(mode) as file:
            if suffix != ".gz":
                yield cast("IO[bytes]", file)
                return
            # Without a time and a name: the same lines are the same bytes.
            with gzip.GzipFile("", cast("Any", mode), fileobj=file, mtime=0) as lines:
                yield cast("IO[bytes]", lines)
    except damaged as error:
        raise ExportError(path, 0, f"the file was cut off or damaged ({error}): export it again") from error


def _zstd() -> Any:
    for name in ("compression.zstd", "zstandard"):
        try:
            return import_module(name)
        except ImportError:
            continue
    raise InvalidArgument("for .zst you need Python 3.14, or `pip install pg-eventstore[zstd]`")
