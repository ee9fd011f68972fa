"""Where an archive is kept: a directory, which keeps a few files by their names."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from eventstore.errors import ArchiveError, InvalidArgument


class Place(Protocol):
    """A place for one archive. Its methods raise ArchiveError."""

    name: str
    """Where it is: an absolute path, or an address without a password."""

    def names(self) -> list[str]:
        """The names of the files that are there."""
        ...

    def read(self, name: str) -> bytes:
        """A whole file."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file, which is there for good when this returns."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """As ``write``, whole or not at all. False, and nothing is written, if there is such a file."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that may be there."""
        ...


def place_at(where: str) -> Place:
    """The place with a path, or an address such as ``s3://bucket/path``. Raises ArchiveError, InvalidArgument."""
    if not where.strip():
        raise InvalidArgument("the place of an archive must be a directory, or an address such as s3://bucket/path")
    scheme, separator, rest = where.partition("://")
    if not separator:
        return Directory(where)
    if scheme in {"file", "local"}:
        return Directory(rest)
    raise InvalidArgument(f"the place of an archive must be a directory, not {where!r}")


class Directory:
    """A directory, which is made when it is first written to."""

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        self.name = str(self._path)

    def names(self) -> list[str]:
        with self._telling("can't be read"):
            return [each.name for each in self._path.iterdir()] if self._path.exists() else []

    def read(self, name: str) -> bytes:
        with self._telling(f"{name} can't be read"):
            return (self._path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        with self._telling(f"{name} can't be written"):
            self._path.mkdir(parents=True, exist_ok=True)
            with (self._path / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._sync()

    def create(self, name: str, content: bytes) -> bool:
        part = f"{name}.{secrets.token_hex(6)}.part"
        try:
            self.write(part, content)
            with self._telling(f"{name} can't be written"):
                try:
                    (self._path / name).hardlink_to(self._path / part)  # Unlike a rename, it replaces nothing.
                except FileExistsError:
                    return False
                self._sync()
        finally:
            self.remove([part])
        return True

    def remove(self, names: Iterable[str]) -> None:
        with self._telling("can't be written"):
            for name in names:
                (self._path / name).unlink(missing_ok=True)

    def _sync(self) -> None:
        if os.name == "posix":  # Elsewhere a directory can't be opened.
            directory = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    @contextmanager
    def _telling(self, what: str) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            raise ArchiveError(self.name, f"{what}: {error.strerror or error}") from error
