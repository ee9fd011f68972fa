"""Stored values as lines of a page: what is too much is cut, and what a browser would obey is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

from eventstore.codec.showing import LINE, PAGE, cleaned, json_of

MOST_NODES = 2_000
MOST_CHARACTERS = 2_000
_LONGEST_NAME = 200
_MOST_DEEP = 20


class Node(NamedTuple):
    """One value in a tree."""

    name: str
    kind: str
    text: str
    parts: list[Node]
    """What is in it."""


class Line(NamedTuple):
    """One attribute of a state."""

    name: str
    kind: str
    text: str
    change: str
    """"added", "changed" or "removed" by an event; empty if it was not."""


def shown_text(value: object) -> str:
    """A text without characters that hide or turn others around."""
    return cleaned(str(value))


def summary(data: Any) -> str:
    """Data on one line of a list."""
    return json_of(_without_ciphertext(data), LINE)[:300]


def _without_ciphertext(value: Any) -> Any:
    """Data in which sealed values say that they are sealed, and for whom, without their bytes."""
    if isinstance(value, list):
        return [_without_ciphertext(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    entries = cast("dict[str, Any]", value)
    if [*entries] == [_SEALED]:
        return {_SEALED: _subject(entries[_SEALED])}
    return {name: _without_ciphertext(item) for name, item in entries.items()}


_SEALED = "$sealed"


def _subject(sealed: Any) -> str:
    """Whose a sealed value is, of its JSON: a subject and bytes, unless it is damaged."""
    match sealed:
        case [{"$uuid": subject}, _]:
            return str(subject)
        case [str(subject), _]:
            return subject
        case _:
            return "?"


def tree(value: Any) -> list[Node]:
    """A value in the JSON of events as a tree with its types: what is in a map, or else the value itself."""
    left = [MOST_NODES]
    node = _node("", value, 0, left)
    nodes = node.parts or [node]
    if left[0] <= 0:
        nodes = [*nodes, Node("…", "", "more than can be shown: `eventstore read --json` has all of it", [])]
    return nodes


def _node(name: str, value: Any, depth: int, left: list[int]) -> Node:
    left[0] -= 1
    if depth > _MOST_DEEP:
        return Node(_name(name), "", "… nested deeper than can be shown", [])
    kind = ""
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        (first, *more) = entries or ("",)
        if first.startswith("$") and not more:
            kind, value = first[1:], entries[first]
    if f"${kind}" == _SEALED:
        return Node(_name(name), kind, f"personal data of {_cut(_subject(value))}", [])
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        parts = _parts(entries.items(), depth, left)
        return Node(_name(name), kind or "map", f"{len(entries):,} field(s)", parts)
    if isinstance(value, list):
        items = cast("list[Any]", value)
        numbered = ((str(number), item) for number, item in enumerate(items))
        return Node(_name(name), kind or "list", f"{len(items):,} item(s)", _parts(numbered, depth, left))
    return Node(_name(name), kind or _KINDS[type(value)], _cut(value), [])


def _parts(named: Iterable[tuple[str, Any]], depth: int, left: list[int]) -> list[Node]:
    found: list[Node] = []
    for name, value in named:
        if left[0] <= 0:
            break
        found.append(_node(name, value, depth + 1, left))
    return found


_KINDS: dict[type, str] = {str: "text", int: "int", float: "float", bool: "bool", type(None): "nothing"}


def _name(name: str) -> str:
    return cleaned(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…")


def _cut(value: object) -> str:
    text = str(value)
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters)"
    return cleaned(text)


def differences(before: dict[str, Any], after: dict[str, Any]) -> Sequence[Line]:
    """A state, attribute by attribute, with what an event changed."""
    found: list[Line] = []
    for name in sorted(before.keys() | after.keys()):
        change = "added" if name not in before else "removed" if name not in after else ""
        if not change and before[name] != after[name]:
            change = "changed"
        text = json_of(after.get(name, before.get(name)), PAGE)[:MOST_CHARACTERS]
        if change == "changed":
            text = f"{json_of(before[name], PAGE)[:MOST_CHARACTERS]} → {text}"
        found.append(Line(name, type(after.get(name)).__name__, text, change))
    return found
