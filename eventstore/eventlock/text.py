"""The lock file as text: TOML, one thing a line, in an order that does not depend on anything but its content."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from eventstore.errors import EventsLockError

FORMAT = 1
"""Raised when an older release could not read what a newer one writes."""
_HEAD = """\
# What this program's events are stored as, written by `eventstore events lock`.
# `eventstore events check` compares the program with it. Keep it under version control, and don't edit it.
"""
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_T = TypeVar("_T")


@dataclass(frozen=True)
class LockedType:
    """A class of events, or a registered class, as it was when the file was written."""

    kind: str
    """One of "event", "dataclass", "enum" and "flag"."""
    cls: str
    """Module and qualified name of the class."""
    revision: int = 1
    formerly: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    """The types of the fields, in words."""
    optional: tuple[str, ...] = ()
    """The fields that have defaults."""
    members: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of an enum and of flags the members with their values; what is stored is the name of one, the value of others."""
    former_members: Mapping[str, str] = field(default_factory=dict[str, str])
    samples: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict[int, tuple[bytes, ...]])
    """For each revision, data that it stored."""
    reads: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict[int, tuple[bytes, ...]])
    """For each sample of an older revision, what it was read as: data of the revision that the class had."""


@dataclass(frozen=True)
class Lock:
    """What a lock file says."""

    modules: tuple[str, ...]
    types: Mapping[tuple[bool, str], LockedType]
    """By whether it is a class of events, and the stored name."""


def text_of(lock: Lock) -> str:
    """The text of a lock file."""
    lines = [_HEAD, f"format = {FORMAT}", f"modules = {_list(lock.modules)}"]
    for (is_event, name), each in sorted(lock.types.items(), key=lambda item: (not item[0][0], item[0][1])):
        lines += ["", f"[{'events' if is_event else 'values'}.{_key(name)}]"]
        lines += [f"class = {_string(each.cls)}", f"kind = {_string(each.kind)}", f"revision = {each.revision}"]
        if each.formerly:
            lines.append(f"formerly = {_list(each.formerly)}")
        lines += [f"fields.{_key(name)} = {_string(words)}" for name, words in each.fields.items()]
        if each.optional:
            lines.append(f"optional = {_list(each.optional)}")
        lines += [f"members.{_key(name)} = {_string(value)}" for name, value in each.members.items()]
        lines += [f"former_members.{_key(name)} = {_string(now)}" for name, now in sorted(each.former_members.items())]
        for what, samples in (("samples", each.samples), ("reads", each.reads)):
            lines += [
                f"{what}.{revision} = {_list(sample.hex(' ') for sample in packed)}"
                for revision, packed in sorted(samples.items())
            ]
    return "\n".join(lines) + "\n"


def read_lock(path: Path) -> Lock:
    """What a lock file says. Raises EventsLockError if it is missing, damaged, or of a newer release."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise EventsLockError(str(path), "there is no such file: `eventstore events lock MODULE` writes it") from None
    except OSError as error:
        raise EventsLockError(str(path), f"it can't be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise EventsLockError(str(path), f"it is damaged ({error}): take it from version control again") from error
    written_as = content.get("format")
    if type(written_as) is int and written_as > FORMAT:
        raise EventsLockError(
            str(path),
            f"it has format {written_as}, and this release of eventstore knows {FORMAT}: a newer release wrote it, "
            "install that one",
        )
    try:
        if written_as != FORMAT:
            raise ValueError("it has no format")
        types = {
            (part == "events", name): _read_type(_table(name, each))
            for part in ("events", "values")
            for name, each in _table(part, content.get(part, {})).items()
        }
        return Lock(_texts("modules", content["modules"]), types)
    except (ValueError, KeyError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise EventsLockError(str(path), f"it is damaged ({reason}): take it from version control again") from error


def _read_type(content: Mapping[str, Any]) -> LockedType:
    kind = content["kind"]
    if kind not in {"event", "dataclass", "enum", "flag"}:
        raise ValueError(f"the kind {kind!r} is not known")
    return LockedType(
        kind=kind,
        cls=_typed("class", content["class"], str),
        revision=_typed("revision", content["revision"], int),
        formerly=_texts("formerly", content.get("formerly", [])),
        fields=_words("fields", content.get("fields", {})),
        optional=_texts("optional", content.get("optional", [])),
        members=_words("members", content.get("members", {})),
        former_members=_words("former_members", content.get("former_members", {})),
        samples=_packed("samples", content.get("samples", {})),
        reads=_packed("reads", content.get("reads", {})),
    )


def _typed(what: str, value: object, kind: type[_T]) -> _T:
    if type(value) is not kind:
        raise ValueError(f"{what} must be of type {kind.__name__}, not {type(value).__name__}")
    return value


def _table(what: str, value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", _typed(what, value, cast("Any", dict)))


def _texts(what: str, value: object) -> tuple[str, ...]:
    return tuple(_typed(what, each, str) for each in _typed(what, value, cast("type[list[object]]", list)))


def _words(what: str, value: object) -> dict[str, str]:
    return {name: _typed(f"{what}.{name}", each, str) for name, each in _table(what, value).items()}


def _packed(what: str, value: object) -> dict[int, tuple[bytes, ...]]:
    samples = _table(what, value)
    return {int(revision): tuple(map(bytes.fromhex, _texts(what, each))) for revision, each in samples.items()}


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    """A basic string of TOML: as of JSON, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_string, texts))}]"
