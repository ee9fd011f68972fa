"""What in an event is personal, and whose it is: the marks in annotations, and where they stand.

``Annotated[UUID, Subject]`` marks whose data it is, ``Annotated[str, Personal("(erased)")]`` what is sealed.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ForwardRef, Literal, NamedTuple, TypeAlias, Union, cast, get_args, get_origin
from uuid import UUID

from eventstore.codec.annotations import is_class_variable, own_annotations, resolved
from eventstore.codec.format import MAX_DEPTH
from eventstore.codec.values import IMMUTABLE, copied
from eventstore.errors import InvalidArgument, SerializationError
from eventstore.names import check_subject
from eventstore.signals import raised_by_a_signal

Path: TypeAlias = tuple[Any, ...]
"""The names, keys and indexes that lead to a value, after the word for where it begins, such as ``data``."""


class Subject:
    """Marks the field that says whose personal data an event holds: ``customer_id: Annotated[UUID, Subject]``.

    The field holds a UUID, a str or an int. A subject is known by its text: a UUID and the str of it are one subject.
    The text is stored in plain, so it should be a number or a UUID, never an e-mail address.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Personal:
    """Marks a field that is sealed: ``email: Annotated[str, Personal("(erased)")]``.

    >>> class CustomerMoved(Event):
    ...     customer_id: Annotated[UUID, Subject]
    ...     street: Annotated[str, Personal("(erased)")]
    ...     flat: Annotated[int | None, Personal()]

    Args:
        placeholder: what the field reads as when its subject is forgotten, or in a program without the keys. The type
            of the field must allow it.
        of: the field with the subject, where that is not the one that is marked with ``Subject``.
    """

    placeholder: Any = None
    of: str | None = None

    def __post_init__(self) -> None:
        if self.of is not None and not isinstance(self.of, str):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"Personal(of=...) must be the name of a field, not {type(self.of).__name__}")


class Marks(NamedTuple):
    """What a class's annotations mark."""

    personal: Mapping[str, Personal]
    subjects: tuple[str, ...]
    """The fields that are marked with Subject."""

    @property
    def subject(self) -> str | None:
        """The field with the subject of what names no other one."""
        return self.subjects[0] if len(self.subjects) == 1 else None


_marks: dict[type, Marks] = {}
_marked_types: set[type] = set()
"""The registered dataclasses that have personal fields, or may have some: their annotations can't be evaluated yet."""


def note_type(cls: type) -> None:
    """Look whether a class that is registered has personal fields. Raises InvalidArgument."""
    marks = early_marks(cls)
    if marks is None or marks.personal:
        _marked_types.add(cls)


def may_hold_personal() -> bool:
    """Whether a value that is not plain may have personal fields in it."""
    return bool(_marked_types)


def early_marks(cls: type) -> Marks | None:
    """The marks of a class that is being defined; None if its annotations can't be evaluated yet."""
    try:
        return marks_of(cls)
    except _Unknown:
        return None


class _Unknown(InvalidArgument):
    """An annotation that can't be evaluated, and may be a mark."""


def marks_of(cls: type[Any]) -> Marks:
    """The marks of a class and its bases. Raises InvalidArgument if they contradict each other."""
    found = _marks.get(cls)
    if found is None:
        personal: dict[str, Personal] = {}
        subjects: dict[str, None] = {}
        for base in reversed(cls.__mro__):
            for name, annotation in own_annotations(base).items():
                if is_class_variable(annotation):
                    continue
                personal.pop(name, None)
                subjects.pop(name, None)
                hint = _evaluated(base, name, annotation)
                for mark in _marks_in(cls, name, hint):
                    if isinstance(mark, Personal):
                        _check_placeholder(cls, name, hint, mark)
                        personal[name] = mark
                    else:
                        _check_subject_type(cls, name, hint)
                        subjects[name] = None
        found = Marks(personal, tuple(subjects))
        _check(cls, found)
        _marks[cls] = found
    return found


def check_event_marks(cls: type) -> None:
    """Raise InvalidArgument for a class of events with a personal field that has no subject."""
    marks = early_marks(cls)
    if marks is None or marks.subject is not None:
        return
    for name, personal in marks.personal.items():
        if personal.of is None:
            why = f"has the subjects {' and '.join(marks.subjects)}" if marks.subjects else "has no Subject"
            raise InvalidArgument(
                f"{cls.__qualname__}.{name} is Personal, but the class {why}: mark one field, as in "
                f'`customer_id: Annotated[UUID, Subject]`, or name the field with it, as in Personal(of="customer_id")'
            )


def check_personal_metadata(cls: type, marked: object) -> Mapping[str, Personal]:
    """Return the keys of metadata that are personal, each with its mark. Raises InvalidArgument."""
    what = f"{cls.__qualname__}: personal_metadata"
    if not isinstance(marked, Mapping):
        raise InvalidArgument(f"{what} must map keys to Personal(...), not be of type {type(marked).__name__}")
    found = cast("Mapping[str, Personal]", marked)
    marks = early_marks(cls)
    for key, personal in found.items():
        if not isinstance(key, str) or not isinstance(personal, Personal):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"{what} must map keys to Personal(...), not {key!r} to {type(personal).__name__}")
        if marks is not None and personal.of is None and marks.subject is None:
            raise InvalidArgument(f"{what}: {key!r} has no subject: mark one field of the class with Subject")
    return dict(found)


# --- annotations ------------------------------------------------------------------------------------------------------

_MARK = re.compile(r"\b(Personal|Subject)\b")


def _evaluated(base: type, name: str, annotation: Any) -> Any:
    if not isinstance(annotation, (str, ForwardRef)):
        return annotation
    try:
        return resolved(base, annotation, include_extras=True)
    except Exception as error:
        if raised_by_a_signal(error):
            raise
        text = annotation if isinstance(annotation, str) else annotation.__forward_arg__
        if _MARK.search(text):
            raise _Unknown(
                f"{base.__qualname__}.{name}: its annotation can't be evaluated ({error}), so nobody knows whether it "
                "is personal: define the names in it in the module"
            ) from error
        return Any


def _marks_in(cls: type, name: str, hint: Any) -> Iterator[Personal | type[Subject]]:
    """The marks of a whole field. Raises InvalidArgument for marks of a part of its type."""
    hint = _unaliased(hint)
    if get_origin(hint) is typing.Annotated:
        inner, *marks = get_args(hint)
        if Personal in marks:
            raise InvalidArgument(f"{cls.__qualname__}.{name}: write Personal(...) with the placeholder of the field")
        for mark in marks:
            if isinstance(mark, Personal):
                yield mark
            elif mark is Subject or isinstance(mark, Subject):
                yield Subject
        hint = inner
    if any(True for part in get_args(hint) for _ in _all_marks(part)):
        raise InvalidArgument(
            f"{cls.__qualname__}.{name}: a part of its type is marked: put Annotated around the whole type"
        )


def _all_marks(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is typing.Annotated:
        yield from (mark for mark in get_args(hint)[1:] if mark is Subject or isinstance(mark, (Personal, Subject)))
    for part in get_args(hint):
        yield from _all_marks(part)


def _unaliased(hint: Any) -> Any:
    while hasattr(hint, "__value__"):  # `type Email = Annotated[str, Personal("(erased)")]`
        hint = hint.__value__
    return hint


def _check_placeholder(cls: type, name: str, hint: Any, personal: Personal) -> None:
    if not _allows(hint, personal.placeholder):
        raise InvalidArgument(
            f"{cls.__qualname__}.{name}: its type does not allow the placeholder {personal.placeholder!r}: give "
            "Personal(...) a placeholder of the field's own type"
        )


def _check_subject_type(cls: type, name: str, hint: Any) -> None:
    kinds = [_unaliased(each) for each in _alternatives(hint)]
    known = [each for each in kinds if isinstance(each, type)]
    if len(known) == len(kinds) and not any(issubclass(k, (UUID, str, int)) and k is not bool for k in known):
        raise InvalidArgument(f"{cls.__qualname__}.{name} is the Subject, so its type must be UUID, str or int")


def _alternatives(hint: Any) -> Iterator[Any]:
    hint = _unaliased(hint)
    origin = get_origin(hint)
    if origin is typing.Annotated:
        yield from _alternatives(get_args(hint)[0])
    elif origin in {Union, types.UnionType}:
        for part in get_args(hint):
            yield from _alternatives(part)
    else:
        yield getattr(hint, "__supertype__", hint)  # Of a NewType, what it is made of.


def _allows(hint: Any, value: Any) -> bool:
    """Whether an annotation allows a value, as far as that can be seen without looking into containers."""
    return any(_is_of(each, value) for each in _alternatives(hint))


def _is_of(hint: Any, value: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return any(type(each) is type(value) and each == value for each in get_args(hint))
    kind = type(None) if hint is None else origin or hint
    if not isinstance(kind, type):
        return True  # Any, a type variable, a name that is not known here.
    if kind is float and type(value) is int:
        return True
    if kind is int and type(value) is bool:
        return False
    try:
        return isinstance(value, kind)
    except TypeError:  # A protocol.
        return True


def _check(cls: type[Any], marks: Marks) -> None:
    names = {field.name for field in fields(cast("Any", cls))} if is_dataclass(cls) else None
    what: str = cls.__qualname__
    for name, personal in marks.personal.items():
        if name in marks.subjects:
            raise InvalidArgument(f"{what}.{name} can't be Personal and the Subject at once")
        of = personal.of
        if of is None:
            continue
        if (names is not None and of not in names) or of in marks.personal:
            why = "which is sealed itself" if of in marks.personal else "which is not a field of the class"
            raise InvalidArgument(f"{what}.{name} is Personal of {of!r}, {why}")


# --- values -----------------------------------------------------------------------------------------------------------

Visit: TypeAlias = "Callable[[str | None, Any, Personal, Path], Any]"
"""Called with a subject, a personal value, its mark and its path; what it returns takes the value's place."""


class PersonalValues:
    """Walks through what an event holds, and has each personal value visited. The event itself stays as it is."""

    def __init__(self, what: str, visit: Visit) -> None:
        self._what = what
        self._visit = visit

    def of_fields(self, marks: Marks, values: Mapping[str, Any], path: Path, inherited: Any = None) -> dict[str, Any]:
        """The fields of a class, each with what its visit returned. ``inherited`` is the subject around them."""
        scope = values.get(marks.subject) if marks.subject is not None else inherited
        found: dict[str, Any] = {}
        for name, value in values.items():
            personal = marks.personal.get(name)
            if personal is not None:
                found[name] = self._visited(personal, values, scope, value, (*path, name))
            elif type(value) in IMMUTABLE:
                found[name] = value
            else:
                found[name] = self._inside(value, (*path, name), scope)
        return found

    def of_metadata(
        self, marks: Marks, marked: Mapping[str, Personal], values: Mapping[str, Any], metadata: dict[Any, Any]
    ) -> dict[Any, Any]:
        """The metadata of an event with these fields. ``marked`` are its personal keys."""
        scope = values.get(marks.subject) if marks.subject is not None else None
        return {
            key: self._visited(marked[key], values, scope, value, ("metadata", key))
            if key in marked
            else self._inside(value, ("metadata", key), None)
            for key, value in metadata.items()
        }

    def _visited(self, personal: Personal, values: Mapping[str, Any], scope: Any, value: Any, path: Path) -> Any:
        subject = scope if personal.of is None else values.get(personal.of)
        if subject is not None:
            subject = check_subject(f"{self._what}: the subject of {path_text(path[1:])}", subject)
        return self._visit(subject, value, personal, path)

    def _inside(self, value: Any, path: Path, scope: Any) -> Any:
        """A value that is not personal itself, with what is in it."""
        kind = cast("type[Any]", type(value))
        if kind in IMMUTABLE or len(path) > MAX_DEPTH:
            return value
        if kind is dict:
            made = {key: self._inside(item, (*path, key), scope) for key, item in value.items()}
            return made if any(made[key] is not item for key, item in value.items()) else value
        if kind is list or kind is tuple:
            items: Any = [self._inside(item, (*path, number), scope) for number, item in enumerate(value)]
            return (
                cast("Any", kind)(items)
                if any(new is not old for new, old in zip(items, value, strict=True))
                else value
            )
        if kind is set or kind is frozenset:
            for item in value:
                if self._inside(item, (*path, None), scope) is not item:
                    raise SerializationError(
                        self._what, path_text(path[1:]), "a set has no order to find personal data by: use a list"
                    )
            return value
        return self._inside_dataclass(value, path, scope) if is_dataclass(value) else value

    def _inside_dataclass(self, value: Any, path: Path, scope: Any) -> Any:
        names = [field.name for field in fields(value) if hasattr(value, field.name)]
        values = {name: getattr(value, name) for name in names}
        cls = cast("type[Any]", type(value))
        made = self.of_fields(marks_of(cls), values, path, scope)
        if all(made[name] is item for name, item in values.items()):
            return value
        changed: Any = object.__new__(cls)
        for name, item in made.items():
            object.__setattr__(changed, name, item)
        return changed


def path_text(path: Path) -> str:
    """A path as errors write it: ``lines[0].name``."""
    steps = (f".{step}" if isinstance(step, str) and step.isprintable() else f"[{step!r}]" for step in path)
    return "".join(steps).removeprefix(".")


def placeholder_of(personal: Personal) -> Any:
    """The value that a sealed one reads as."""
    return copied(personal.placeholder, {})
