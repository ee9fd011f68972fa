"""Where an archive is kept: a directory, or a place in object storage. Both keep a few files by their names."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

from eventstore.errors import ArchiveError, InvalidArgument

T = TypeVar("T")


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
        return Directory(rest)  # fsspec would leave it to the system when the files are on the disk.
    return Bucket(where)


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


class Bucket:
    """A place in object storage, or wherever else fsspec reaches."""

    def __init__(self, address: str) -> None:
        self.name = re.sub(r"(://[^:/@]*):[^/@]*@", r"\1@", address)
        try:
            core: Any = import_module("fsspec.core")
        except ImportError:
            raise InvalidArgument(f"for {self.name} you need `pip install pg-eventstore[archive]`") from None
        # What it raises depends on the file system, and is not always an OSError.
        self._files, self._root = self._called("it can't be opened", lambda: core.url_to_fs(address))

    def names(self) -> list[str]:
        def listed() -> list[str]:
            self._files.invalidate_cache()
            try:
                found: list[str] = self._files.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
            return [name.rstrip("/").rpartition("/")[2] for name in found]

        return self._called("can't be read", listed)

    def read(self, name: str) -> bytes:
        content: bytes = self._called(f"{name} can't be read", partial(self._files.cat_file, self._path(name)))
        return content

    def write(self, name: str, content: bytes) -> None:
        self._called(f"{name} can't be written", partial(self._piped, name, content, "overwrite"))

    def create(self, name: str, content: bytes) -> bool:
        def created() -> bool:
            try:
                self._piped(name, content, "create")
            except FileExistsError:
                return False
            return True

        return self._called(f"{name} can't be written", created)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._called(f"{name} can't be removed", partial(self._files.rm_file, self._path(name)))

    def _piped(self, name: str, content: bytes, mode: str) -> None:
        self._files.pipe_file(self._path(name), content, mode=mode)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _called(self, what: str, function: Callable[[], T]) -> T:
        try:
            return function()
        except Exception as error:
            raise ArchiveError(self.name, f"{what}: {str(error) or type(error).__name__}") from error
