"""What may be the name of a stream, a category, an event type: one rule for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import cast
from uuid import UUID

from eventstore.errors import InvalidArgument

MAX_NAME_BYTES = 255
"""The longest name, in bytes of UTF-8. The database holds the same limit."""

MAX_SUBJECT_BYTES = 200
"""The longest subject, in bytes of UTF-8: it is a part of a stream id."""


def check_name(what: str, name: object) -> str:
    """Return ``name`` if it is a str of 1 to 255 bytes of UTF-8 without NUL; else raise InvalidArgument."""
    if not isinstance(name, str):
        raise InvalidArgument(f"{what} must be a str, not {type(name).__name__}")
    if not name:
        raise InvalidArgument(f"{what} must not be empty")
    if "\0" in name:
        raise InvalidArgument(f"{what} {name[:40]!r} must not contain NUL")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what} {name[:40]!r} has a lone surrogate, which can't be encoded in UTF-8") from None
    if size > MAX_NAME_BYTES:
        raise InvalidArgument(
            f"{what} {name[:40]!r}... has {size} bytes in UTF-8; at most {MAX_NAME_BYTES} are possible"
        )
    return name


def check_names(what: str, names: object) -> list[str]:
    """Return ``names`` as a list if it holds names, and is not one itself; else raise InvalidArgument."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise InvalidArgument(f"{what} must be a list of names, not {type(names).__name__}")
    return [check_name(what, name) for name in cast("Iterable[object]", names)]


def check_category(name: object) -> str:
    """Return ``name`` if it can be a category, which also must not contain "-": there the id of a stream begins."""
    category = check_name("category", name)
    if "-" in category:
        raise InvalidArgument(f"category {category!r} must not contain '-', which ends it in a stream id")
    return category


@lru_cache(maxsize=10_000)
def uuid_text(uuid: UUID) -> str:
    """``str(uuid)``: events of one subject often come together."""
    return str(uuid)


def check_subject(what: str, subject: object) -> str:
    """Return the text that a subject is known by. Raises InvalidArgument unless it is a UUID, a str or an int."""
    if type(subject) is UUID:
        return uuid_text(subject)
    if isinstance(subject, bool) or not isinstance(subject, (UUID, str, int)):
        raise InvalidArgument(f"{what} must be a UUID, a str or an int, not {type(subject).__name__}")
    text = check_name(what, str(subject))
    size = len(text.encode())
    if size > MAX_SUBJECT_BYTES:
        raise InvalidArgument(f"{what} has {size} bytes in UTF-8; at most {MAX_SUBJECT_BYTES} are possible")
    return text
