"""What has changed since a lock file was written, and whether stored bytes survive it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from eventstore.codec.registry import registered_class, registered_name
from eventstore.errors import EventStoreError, RevisionError
from eventstore.event_types import event_class, is_ignored
from eventstore.eventlock.describing import described_program, read_sample
from eventstore.eventlock.text import Lock, LockedType


class Finding(NamedTuple):
    """Something that has changed."""

    is_problem: bool
    """Whether stored bytes do not survive it."""
    name: str
    """The stored name of the type."""
    text: str

    def __str__(self) -> str:
        return f"{'error' if self.is_problem else 'note'}: {self.name}: {self.text}"


def compared(lock: Lock, modules: Iterable[str] = ()) -> list[Finding]:
    """What has changed in the program since the lock was written, problems first.

    ``modules`` are the lock's, unless given. Raises InvalidArgument if there is no such module.
    """
    try:
        now = described_program(tuple(modules) or lock.modules)
    except RevisionError as error:
        return [Finding(True, error.cls.__name__, str(error))]
    renamed = _renamed_classes(lock)
    known: set[tuple[bool, str]] = set()
    found: list[Finding] = []
    for (is_event, name), locked in lock.types.items():
        cls: Any = event_class(name) if is_event else registered_class(name)
        present = None if cls is None else cls.event_type if is_event else registered_name(cls)
        current = None if present is None else now.types.get((is_event, present))
        if cls is None:
            found.append(_gone(name, is_event=is_event))
        elif current is None:
            found.append(Finding(False, name, "its class is in none of the modules any more, but is still defined"))
        else:
            known.add((is_event, cast("str", present)))
            found += _Comparison(name, locked, current, cls, renamed).findings(cast("str", present))
    found += [Finding(False, name, "it is new") for _, name in now.types.keys() - known]
    return sorted(found, key=lambda each: (not each.is_problem, each.name, each.text))


def _gone(name: str, *, is_event: bool) -> Finding:
    if is_event and is_ignored(name):
        return Finding(False, name, "its class is gone, and aggregates ignore it")
    instead = ", or name the type in an aggregate's `ignored`" if is_event else ""
    return Finding(
        True,
        name,
        "no class has this name any more, now or formerly, and it may be stored: keep the class, let the one that "
        f"takes its place say formerly=[{name!r}]{instead}",
    )


def _renamed_classes(lock: Lock) -> dict[str, str]:
    """The classes that annotations speak of under another name than they did."""
    renamed: dict[str, str] = {}
    for (is_event, name), locked in lock.types.items():
        cls = None if is_event else registered_class(name)
        before = locked.cls.rpartition(".")[2]
        if cls is not None and cls.__name__ != before:
            renamed[before] = cls.__name__
    return renamed


@dataclass(frozen=True)
class _Comparison:
    """One type as it was locked, and as it is."""

    name: str
    before: LockedType
    now: LockedType
    cls: type
    renamed: Mapping[str, str]

    def findings(self, present: str) -> Iterator[Finding]:
        before, now = self.before, self.now
        if present != self.name:
            yield self._note(f"it is called {present!r} now")
        for former in before.formerly:
            if former not in now.formerly and former != present:
                yield self._problem(f"its former name {former!r} is gone, and may be stored: name it in formerly=")
        if before.kind != now.kind:
            yield self._problem(
                f"it was of kind {before.kind}, and is of kind {now.kind}: give the new class a new name"
            )
        elif now.kind in {"enum", "flag"}:
            yield from self._members()
        else:
            found = list(self._revisions())
            yield from found
            if not any(each.is_problem for each in found):  # They would say the same once more.
                yield from self._samples()

    def _note(self, text: str) -> Finding:
        return Finding(False, self.name, text)

    def _problem(self, text: str) -> Finding:
        return Finding(True, self.name, text)

    def _members(self) -> Iterator[Finding]:
        before, now = self.before.members, self.now.members
        for member in before:
            if member not in now and member not in self.now.former_members:
                yield self._problem(
                    f"its member {member} is gone, and may be stored: keep it, or say what it is now by "
                    f"members={{{member!r}: ...}}"
                    if self.now.kind == "enum"
                    else f"its flag {member} is gone, and its value {before[member]} may be stored: keep it"
                )
            elif self.now.kind == "flag" and now[member] != before[member]:
                yield self._problem(
                    f"the value of {member} was {before[member]} and is {now[member]}, and values are stored: change "
                    "it back"
                )
        for former in self.before.former_members:
            if former not in self.now.former_members and former not in now:
                yield self._problem(f"its former member {former!r} is gone, and may be stored: name it in members=")
        for member in now:
            if member not in before:
                yield self._note(f"its member {member} is new: programs of before can't read it, so deploy it twice")

    def _revisions(self) -> Iterator[Finding]:
        if self.now.revision < self.before.revision:
            yield self._problem(
                f"it was at revision {self.before.revision}, and is at {self.now.revision}: a revision that was stored "
                "can't be taken back, raise it instead"
            )
        elif self.now.revision > self.before.revision:
            yield self._note(f"it is at revision {self.now.revision} now, and was at {self.before.revision}")
        else:
            yield from self._fields()

    def _fields(self) -> Iterator[Finding]:
        """What has changed within one revision."""
        before, now = self.before, self.now
        again = f"raise the class to revision {now.revision + 1}, with an upcaster"
        for field, words in before.fields.items():
            was = self._as_now(words)
            if field not in now.fields:
                yield self._note(f"the field {field} is gone: what is stored of it is passed over")
            elif not _accepts(now.fields[field], was):
                yield self._problem(f"the field {field} was of type {was}, and is of type {now.fields[field]}: {again}")
            elif now.fields[field] != was:
                yield self._note(f"the field {field} was of type {was}, and takes {now.fields[field]}")
            if field in before.optional and field in now.fields and field not in now.optional:
                yield self._problem(
                    f"the field {field} has no default any more, and may not be stored: keep it, or {again}"
                )
        for field in now.fields:
            if field not in before.fields and field in now.optional:
                yield self._note(f"the field {field} is new, with a default")
            elif field not in before.fields:
                yield self._problem(
                    f"the field {field} is new, and what is stored lacks it: give it a default, or {again}"
                )

    def _as_now(self, words: str) -> str:
        return re.sub(r"\w+", lambda found: self.renamed.get(found[0], found[0]), words)

    def _samples(self) -> Iterator[Finding]:
        """Whether each sample is read as it was when it was locked: also by way of later upcasters."""
        for revision, samples in self.before.samples.items():
            if revision > self.now.revision:
                continue
            expected = self.before.reads.get(revision, samples)
            for sample, reads in zip(samples, expected, strict=False):
                try:
                    found = read_sample(self.now.kind, self.cls, sample, revision)
                    wanted = [read_sample(self.now.kind, self.cls, reads, self.before.revision) for _ in range(2)]
                except EventStoreError as error:
                    yield self._problem(f"a sample of revision {revision} can't be read: {error}")
                    continue
                if found != wanted[0] and wanted[0] == wanted[1]:  # Else a default is another one each time.
                    yield self._problem(
                        f"a sample of revision {revision} reads differently: {found!r}, and was {wanted[0]!r}. What an "
                        "upcaster made of stored data must stay: change it back, and raise the revision instead"
                    )


def _accepts(now: str, before: str) -> bool:
    """Whether whatever was of one type is of another one as well, by their words."""
    return bool({"Any", "object"} & (parts := _parts(now))) or _parts(before) <= parts


def _parts(words: str) -> set[str]:
    """The alternatives of a union."""
    parts, depth = [""], 0
    for character in words:
        depth += (character == "[") - (character == "]")
        if character == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return {part.strip() for part in parts}
