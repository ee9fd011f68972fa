"""Values for people: whatever can be stored can be shown, on a terminal, in a log, on a page.

What comes from data may be huge, deep, or made to deceive whoever looks at it. So values are cut, with a note of what
was cut, and characters that a terminal or browser would obey are escaped.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
from collections.abc import Collection, Iterable
from datetime import date, time, timedelta
from typing import Any, NamedTuple, cast


class Limits(NamedTuple):
    """How much of a value is shown."""

    values: int
    """How many values in all."""
    characters: int
    """Of one text."""
    depth: int


PAGE = Limits(10_000, 100_000, 100)
"""For whoever looks at one event."""
LINE = Limits(1_000, 10_000, 50)
"""For one event among others."""
SUMMARY = Limits(30, 100, 5)
"""For a cell of a table."""

_LONGEST_INT = 2_048
"""Bits of the longest integer that is written in decimal. Python may be told to refuse more than 640 digits, and takes
a time that grows with their square."""
_UNPRINTABLE = re.compile(r"[^\n\x20-\x7e\xa1-\u1fff]")
"""A character that may need escaping: a quick first look."""


def cleaned(text: str) -> str:
    """A text on one line, without anything that a terminal or a log would obey.

    Control characters, line ends and the controls of writing direction are written as Python escapes.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def cleaned_json(text: str) -> str:
    """The same for a JSON text, which stays that text for whoever parses it; line ends between its values stay."""
    return _UNPRINTABLE.sub(_json_escaped, text) if not text.isprintable() else text


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _json_escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1].replace("\x7f", "\\u007f")


def json_of(value: Any, limits: Limits, *, indent: int | None = None) -> str:
    """A stored value as one clean JSON text for people, of which types are not seen and bytes are only counted.

    UUIDs and Decimals are text, dates and times text in ISO 8601, timedeltas ISO 8601 durations in seconds, NaN and the
    infinities text; tuples and sets are arrays, Enums their names, dataclasses objects, and a dict with keys that are
    not text an array of [key, value] pairs. ``typed_json`` is the form for programs.
    """
    return cleaned_json(json.dumps(_Jsonable(limits).of(value, 0), ensure_ascii=False, indent=indent))


class _Room:
    """How much may still be shown."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.left = limits.values

    def shares(self, values: Collection[Any]) -> Iterable[Any]:
        """The values that there is room for, each of which takes some."""
        for value in values:
            if self.left <= 0:
                return
            self.left -= 1
            yield value

    def text(self, text: str) -> str:
        most = self.limits.characters
        return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"

    def is_too_deep(self, depth: int) -> bool:
        return depth > self.limits.depth

    @property
    def too_deep(self) -> str:
        return f"… (nested more than {self.limits.depth} deep)"


def _more(count: int) -> str:
    return f"… ({count:,} more)"


def _is_long(number: int) -> bool:
    return number.bit_length() > _LONGEST_INT


def _long(number: int) -> str:
    return f"… (an integer of about {round(number.bit_length() * math.log10(2)):,} digits)"


class _Jsonable(_Room):
    def of(self, value: Any, depth: int) -> Any:  # noqa: PLR0911, C901 one branch a kind
        match value:
            case enum.Enum():  # before the plain types: it may be an int or a str as well
                return self.of(value.name or value.value, depth)  # a Flag of none has no name
            case float() if not math.isfinite(value):
                return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
            case None | bool() | float():
                return value
            case int():
                return value if not _is_long(value) else _long(value)
            case str():
                return self.text(value)
            case date() | time():
                return value.isoformat()
            case timedelta():
                return duration(value)
            case bytes():
                return f"<{len(value):,} bytes>"
            case dict() | list() | tuple() | set() | frozenset():
                return self._container(cast("Collection[Any]", value), depth + 1)
            case _ if dataclasses.is_dataclass(value):
                return self._container({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, depth + 1)
            case _:
                return self.text(str(value))  # UUID, Decimal

    def _container(self, value: Collection[Any], depth: int) -> Any:
        if self.is_too_deep(depth):
            return self.too_deep
        total = len(value)
        if isinstance(value, dict):
            values = cast("dict[Any, Any]", value)
            if all(isinstance(key, str) for key in values):
                named: dict[str, Any] = {key: self.of(values[key], depth) for key in self.shares(values)}
                return named if len(named) == len(values) else named | {"…": _more(len(values) - len(named))}
            items: list[Any] = [[self.of(key, depth), self.of(values[key], depth)] for key in self.shares(values)]
        else:
            items = [self.of(item, depth) for item in self.shares(value)]
        missing = total - len(items)
        if isinstance(value, set | frozenset):
            items.sort(key=json.dumps)
        return [*items, _more(missing)] if missing else items


def duration(value: timedelta) -> str:
    """ISO 8601, in seconds: ``PT90.5S``, ``-PT1S``."""
    microseconds = abs(value) // timedelta(microseconds=1)
    seconds = f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06}".rstrip("0").rstrip(".")
    return f"{'-' if value < timedelta() else ''}PT{seconds}S"


# --- as Python says it ------------------------------------------------------------------------------------------------


def represented(value: Any) -> str:
    """``repr(value)``; cut where that would be huge, or could not be had at all."""
    if _fits(value, _Room(LINE), 0):
        return repr(value)
    return _Represented(LINE).of(value, 0)


def _fits(value: Any, room: _Room, depth: int) -> bool:
    """Whether all of a value may be shown. It looks at no more than that."""
    room.left -= 1
    if room.left < 0 or room.is_too_deep(depth):
        return False
    if isinstance(value, int):
        return not _is_long(value)
    if isinstance(value, (str, bytes)):
        return len(value) <= room.limits.characters
    return all(_fits(part, room, depth + 1) for part in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        for pair in cast("dict[Any, Any]", value).items():
            yield from pair
    elif isinstance(value, list | tuple | set | frozenset):
        yield from cast("Iterable[Any]", value)
    elif _is_dataclass(value):
        for field in dataclasses.fields(value):
            yield getattr(value, field.name, None)


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


class _Represented(_Room):
    def of(self, value: Any, depth: int) -> str:
        if isinstance(value, int) and _is_long(value):
            return _long(value)
        if isinstance(value, (str, bytes)):
            most = self.limits.characters
            return repr(value) if len(value) <= most else f"{value[:most]!r}… ({len(value):,} in all)"
        if isinstance(value, dict):
            return self._joined("{", cast("dict[Any, Any]", value), "}", ": ", depth + 1)
        if isinstance(value, list | tuple | set | frozenset):
            items = cast("Collection[Any]", value)
            opened, closed = _BRACKETS.get(cast("Any", type(items)), ("(", ")"))
            return self._joined(opened, items, closed, "", depth + 1)
        if _is_dataclass(value):
            names = [each.name for each in dataclasses.fields(cast("Any", value)) if each.repr]
            fields = {name: getattr(value, name, None) for name in names}
            return self._joined(f"{type(value).__qualname__}(", fields, ")", "=", depth + 1)
        return repr(value)

    def _joined(self, opened: str, items: Collection[Any], closed: str, between: str, depth: int) -> str:
        """What is in a container; with ``between``, it is a dict, and that stands between a key and its value."""
        if self.is_too_deep(depth):
            return f"{opened}{self.too_deep}{closed}"
        shown: list[str] = []
        for item in self.shares(items):
            text = item if between == "=" else self.of(item, depth)
            if between:
                text = f"{text}{between}{self.of(cast('dict[Any, Any]', items)[item], depth)}"
            shown.append(text)
        missing = len(items) - len(shown)
        if missing:
            shown.append(_more(missing))
        return f"{opened}{', '.join(shown)}{closed}"


_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}
