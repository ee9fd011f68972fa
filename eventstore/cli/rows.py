"""Rows of CSV and JSON Lines files as events, one by one."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast
from uuid import UUID, uuid5

from eventstore.codec import MAX_BYTES
from eventstore.core.records import encode_events
from eventstore.errors import EventStoreError, InvalidArgument
from eventstore.event import Event
from eventstore.names import check_category, check_name

_NAMESPACE = UUID("6f3c7a52-0d0b-5d4e-9a60-5b0f6f0e7a11")
"""Of the ids of imported events. Another one would import every file a second time."""
_BEYOND_MICROSECONDS = re.compile(r"[.,]\d{6}\d*[1-9]")
_OTHER_DELIMITERS = {";": ("semicolon", "';'"), "\t": ("tab", "tab"), "|": ("bar", "'|'"), ",": ("comma", "','")}
_TOO_DEEP = "the row is nested too deeply"


class RowError(EventStoreError):
    """A row that can't be imported. ``path`` and ``line`` say where it is."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        self.path = path
        self.line = line
        super().__init__(f"{path}:{line}: {reason}")


class Columns(NamedTuple):
    """The names of the columns that are more than data."""

    stream: str
    type: str
    timestamp: str


class Row(NamedTuple):
    """A row that is ready to be appended."""

    line: int
    stream_id: str
    number: int
    """Of the row among those of its stream, from 1: the version that its event has or gets."""
    event: Event


@dataclass
class Source:
    """A file, and how its rows are to be understood."""

    path: Path
    category: str
    columns: Columns
    zone: tzinfo | None
    """Of times that don't say their own."""
    delimiter: str = ","
    """What stands between the fields of a CSV file."""
    bytes_read: int = 0

    def __post_init__(self) -> None:
        check_category(self.category)
        self.counts: dict[str, int] = {}
        """Rows so far, by stream."""

    @contextmanager
    def open(self) -> Generator[BinaryIO, None, None]:
        """The file. Raises EventStoreError if it can't be read."""
        try:
            with self.path.open("rb") as file:
                yield file
        except OSError as error:
            raise EventStoreError(f"{self.path} can't be read: {error.strerror or error}") from error

    def rows(self, file: BinaryIO) -> Iterator[Row]:
        """The rows in their order. Raises RowError for the first invalid one."""
        parse = self._json_rows if self.path.suffix.lower() == ".jsonl" else self._csv_rows
        for line, values in parse(file):
            try:
                yield self._row(line, values)
            except EventStoreError as error:
                raise RowError(self.path, line, str(error)) from error
            except RecursionError:
                raise RowError(self.path, line, _TOO_DEEP) from None

    def _row(self, line: int, values: dict[str, Any]) -> Row:
        stream = _text_of(values, self.columns.stream)
        event_type = _text_of(values, self.columns.type)
        moment = self._moment(_text_of(values, self.columns.timestamp, numbers=False))
        stream_id = check_name("the stream id", f"{self.category}-{stream}")
        data = {name: value for name, value in values.items() if name not in self.columns}
        number = self.counts.get(stream_id, 0) + 1
        # The same row at the same place has the same id, in every run: the store then knows it as stored. The line is
        # not part of it: rows of other streams may come and go.
        content = json.dumps([stream_id, event_type, number, moment.isoformat(), data], sort_keys=True)
        event = Event(event_type=event_type, data=data, timestamp=moment, event_id=uuid5(_NAMESPACE, content))
        self.counts[stream_id] = number
        return Row(line, stream_id, number, event)

    def check(self, rows: Iterable[Row]) -> None:
        """Raise RowError for the first of these rows whose event can't be stored."""
        for row in rows:
            try:
                encode_events([row.event])
            except EventStoreError as error:
                raise RowError(self.path, row.line, str(error)) from error
            except RecursionError:
                raise RowError(self.path, row.line, _TOO_DEEP) from None

    def _moment(self, text: str) -> datetime:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise InvalidArgument(
                f"column {self.columns.timestamp!r} has {text!r}, which is not a time in ISO 8601, such as "
                "2011-10-11T13:45:40.276+02:00"
            ) from None
        if _BEYOND_MICROSECONDS.search(text):
            raise InvalidArgument(
                f"column {self.columns.timestamp!r} has {text!r}, which is finer than the microseconds that a "
                "timestamp has: leave six digits after the point"
            )
        if moment.tzinfo is not None:
            return moment
        if self.zone is None:
            raise InvalidArgument(
                f"column {self.columns.timestamp!r} has {text!r}, a time without an offset: say its zone with --tz, "
                "such as --tz Europe/Amsterdam or --tz UTC"
            )
        return moment.replace(tzinfo=self.zone)

    # --- files --------------------------------------------------------------------------------------------------------

    def _lines(self, file: BinaryIO) -> Iterator[str]:
        for number, line in enumerate(file, 1):
            self.bytes_read += len(line)
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise RowError(self.path, number, f"byte {error.start + 1} is not UTF-8: convert the file") from None

    def _csv_rows(self, file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
        rows = self._csv_records(file)
        line, header = next(rows, (1, list[str]()))
        if not header:
            raise RowError(self.path, line, "the file is empty: its first row names the columns")
        self._check_delimiter(header, line)
        twice = {name for name in header if header.count(name) > 1}
        if twice:
            raise RowError(self.path, line, f"two columns have one name: {_listed(twice)}")
        for column in self.columns:
            if column not in header:
                raise RowError(self.path, line, _no_column(column, header))
        for line, fields in rows:
            if len(fields) != len(header):
                raise RowError(self.path, line, f"{len(fields)} fields, where the header has {len(header)}")
            yield line, dict(zip(header, fields, strict=True))

    def _check_delimiter(self, header: list[str], line: int) -> None:
        found = [delimiter for delimiter in _OTHER_DELIMITERS if delimiter in header[0]]
        if len(header) == 1 and header[0] not in self.columns and found:
            name, option = _OTHER_DELIMITERS[found[0]]
            raise RowError(
                self.path,
                line,
                f"the header is one column, with a {name} in it: say --delimiter {option} if that is it",
            )

    def _csv_records(self, file: BinaryIO) -> Iterator[tuple[int, list[str]]]:
        """The records that have any field, with the lines on which they begin."""
        reader = csv.reader(self._lines(file), strict=True, delimiter=self.delimiter)
        while True:
            line = reader.line_num + 1
            limit = csv.field_size_limit(MAX_BYTES)  # it is one for the whole process
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise RowError(self.path, line, f"this is not CSV: {error}") from error
            finally:
                csv.field_size_limit(limit)
            if fields:
                yield line, fields

    def _json_rows(self, file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(self._lines(file), 1):
            if line.isspace():
                continue
            try:
                values = json.loads(line, object_pairs_hook=_object)
            except RecursionError:
                raise RowError(self.path, number, _TOO_DEEP) from None
            except InvalidArgument as error:
                raise RowError(self.path, number, str(error)) from error
            except ValueError as error:
                raise RowError(self.path, number, f"this is not JSON: {error}") from error
            if not isinstance(values, dict):
                raise RowError(self.path, number, "each line must be a JSON object")
            yield number, cast("dict[str, Any]", values)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise InvalidArgument(f"an object has one name twice: {_listed({n for n in names if names.count(n) > 1})}")
    return found


def _text_of(values: dict[str, Any], column: str, *, numbers: bool = True) -> str:
    """The value of a column that must be text; with ``numbers`` a whole number in JSON is taken as its digits."""
    if column not in values:
        raise InvalidArgument(_no_column(column, values))
    value = values[column]
    if numbers and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InvalidArgument(f"column {column!r} must be text, not {json.dumps(value)[:40]}")
    if not value.strip():
        raise InvalidArgument(f"column {column!r} is empty")
    return value


def _no_column(column: str, columns: Iterable[str]) -> str:
    return f"there is no column {column!r}; the columns are {_listed(columns)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
