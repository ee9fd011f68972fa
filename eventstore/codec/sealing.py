"""Sealed values: AES-256-GCM of personal data under a key of its subject. docs/format.md says what each byte is.

Bytes are sealed and opened here, without any look at classes: an event is opened before its upcasters see it, and what
can't be opened stays sealed in the bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, cast
from uuid import UUID

from eventstore.codec.decoding import decode, decode_value
from eventstore.codec.encoding import Ciphertext, packed_value
from eventstore.codec.format import (
    CONTAINERS,
    DATACLASS,
    HARMLESS_BYTES,
    MAX_DEPTH,
    SEALED,
    UUID_,
    check_size,
    untyped_msgpack,
)
from eventstore.codec.personal import Marks, Path, Personal, marks_of, path_text, placeholder_of
from eventstore.codec.values import IMMUTABLE, Sealed
from eventstore.errors import InvalidOperation, SubjectKeyError
from eventstore.signals import raised_by_a_signal

KEY_BYTES = 32
"""Of a subject's key, and of a key-encryption key: AES-256."""
_NONCE_BYTES, _TAG_BYTES = 12, 16


class Cipher:
    """The key of a subject, ready for use by any number of threads.

    Raises SubjectKeyError for a key of another length, and InvalidOperation without the package ``cryptography``.
    """

    __slots__ = ("_aead", "_invalid")

    def __init__(self, subject: str, key: bytes) -> None:
        if type(key) is not bytes or len(key) != KEY_BYTES:
            raise SubjectKeyError(subject, f"it must be {KEY_BYTES} bytes: look at what the key store returned")
        self._aead, self._invalid = aead(key)

    def __repr__(self) -> str:
        return "<a subject's key>"

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        """Encrypt some bytes: a nonce, the ciphertext, and its tag."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = self._aead.encrypt(nonce, plaintext, associated)
        return nonce + sealed

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """What was encrypted. Raises ValueError for anything else, or if it was sealed for another place."""
        try:
            if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
                raise ValueError("a sealed value is too short")
            opened: bytes = self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)
        except self._invalid:
            raise ValueError(
                "a sealed value is damaged, was moved here from another event or field, or its subject has another key"
            ) from None
        return opened


Keys: TypeAlias = Mapping[str, Cipher | None]
"""Keys by their subjects; None for a subject that was forgotten."""


def aead(key: bytes) -> tuple[Any, type[Exception]]:
    """AES-256-GCM with a key, and the exception that says that something was not encrypted by it."""
    try:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 an extra
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
    except ImportError as error:
        raise InvalidOperation(
            "personal data is sealed by the package cryptography, which is not installed: "
            "pip install 'pg-eventstore[privacy]'"
        ) from error
    return AESGCM(key), InvalidTag


# --- sealing ----------------------------------------------------------------------------------------------------------


def associated_data(event_id: bytes, path: Path) -> bytes:
    """What a sealed value is bound to: the event, and its place there."""
    found = _packed_paths.get(path)
    if found is None:
        found = packed_value("a path", path, list(path))
        if all(type(step) is str for step in path) and len(_packed_paths) < _MOST_PATHS:  # 1 and True are one key.
            _packed_paths[path] = found
    return event_id + found


_packed_paths: dict[Path, bytes] = {}
_MOST_PATHS = 1000
"""Paths that are remembered: those to fields, which are few."""


def sealed_value(subject: str, cipher: Cipher, plaintext: bytes, associated: bytes) -> Ciphertext:
    """An encoded value, encrypted for one place."""
    return Ciphertext(_payload(subject, cipher.seal(plaintext, associated)))


def _payload(subject: str, sealed: bytes) -> bytes:
    packed: bytes = untyped_msgpack.packb(sealed)
    return _head(subject) + packed


@lru_cache(maxsize=10_000)
def _head(subject: str) -> bytes:
    """How the payload of a subject's values begins: an array of two, and the subject."""
    uuid = _uuid_bytes(subject)
    packed: bytes = untyped_msgpack.packb(subject) if uuid is None else b"\xd8" + bytes([UUID_]) + uuid
    return b"\x92" + packed


def _uuid_bytes(subject: str) -> bytes | None:
    """The bytes of a UUID, for a subject that is the text of one: they are half as long."""
    if len(subject) != 36:
        return None
    try:
        uuid = UUID(subject)
    except ValueError:
        return None
    return uuid.bytes if str(uuid) == subject else None


# --- whose it is ------------------------------------------------------------------------------------------------------

_SEALED_HEAD = re.compile(
    rb"(?:\xc7.|\xc8..|\xc9....)\x0d\x92(?:\xd8\x03(?P<uuid>.{16})|(?:\xd9(?P<long>.)|(?P<short>[\xa1-\xbf])))",
    re.DOTALL,
)


def subjects_in(packed: bytes) -> set[str]:
    """The subjects of the sealed values in some bytes, found without decoding them.

    By chance other bytes may look like one: their subject is looked up in vain.
    """
    found: set[str] = set()
    for match in _SEALED_HEAD.finditer(packed):
        if match["uuid"] is not None:
            found.add(_text_of(match["uuid"]))
            continue
        length = match["long"][0] if match["long"] is not None else match["short"][0] - 0xA0
        text = packed[match.end() : match.end() + length]
        if len(text) == length and b"\0" not in text:
            try:
                found.add(text.decode())
            except UnicodeDecodeError:
                continue
    return found


@lru_cache(maxsize=10_000)
def _text_of(uuid: bytes) -> str:
    return str(UUID(bytes=uuid))


def is_sealed_in(packed: bytes) -> bool:
    """Whether some bytes may hold something sealed."""
    return _SEALED_HEAD.search(packed) is not None


# --- opening ----------------------------------------------------------------------------------------------------------


class Opened(NamedTuple):
    """Bytes in which sealed values were replaced by what they hold."""

    packed: bytes
    subjects: frozenset[str]
    """Whose values were sealed, opened or not."""


class _Container(NamedTuple):
    """An extension type whose payload is msgpack again, unpacked."""

    code: int
    content: Any


class _SealedBytes(NamedTuple):
    payload: bytes


def opened_fields(
    packed: bytes, event_id: bytes, root: str, keys: Keys | None
) -> tuple[dict[str, Any], set[str]] | None:
    """The fields of an event, opened as far as there are keys, and the subjects; where only whole fields are sealed.

    None where something is sealed inside of a field, or can't be decoded: ``opened`` finds out, and takes longer.
    Raises ValueError as that one does, and DeserializationError.
    """
    values: dict[str, Any] = decode(packed, sealed=True)
    sealed = [(name, value) for name, value in values.items() if type(value) is Sealed]
    if len(sealed) != sum(1 for _ in _SEALED_HEAD.finditer(packed)):
        return None
    for name, value in sealed:
        cipher = None if keys is None else _cipher_of(value.subject, keys)
        if cipher is not None:
            plaintext = cipher.open(value._ciphertext, associated_data(event_id, (root, name)))
            try:
                values[name] = decode_value(plaintext)
            except Exception as error:  # of a class that is gone, for one
                if raised_by_a_signal(error):
                    raise
                return None
    return values, {value.subject for _, value in sealed}


def _cipher_of(subject: str, keys: Keys) -> Cipher | None:
    """The key of a subject, None if it was forgotten. Raises ValueError if it never had one."""
    if subject not in keys:
        raise ValueError(
            f"a value of it is sealed for the subject {subject!r}, of which this key store never had a key: is it the "
            "key store of another log?"
        )
    return keys[subject]


def opened(packed: bytes, event_id: bytes, root: str, keys: Keys | None) -> Opened:
    """Replace sealed values by what they hold, where there is a key. Without a key store nothing is opened.

    Raises ValueError for one that is damaged, stands at another place than it was sealed for, or whose subject never
    had a key.
    """
    if len(packed) > HARMLESS_BYTES:
        check_size(packed)
    subjects: set[str] = set()

    def open_(value: Any, path: Path, depth: int) -> Any:
        kind = cast("type[Any]", type(value))
        if depth > MAX_DEPTH + 2:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        if kind is dict:
            return {key: open_(item, (*path, key), depth + 1) for key, item in value.items()}
        if kind is list:
            return [open_(item, (*path, number), depth + 1) for number, item in enumerate(value)]
        if kind is _Container:
            return _packed_container(value, lambda content, steps: open_(content, (*path, *steps), depth + 1))
        if kind is _SealedBytes:
            subject, sealed = parsed(value.payload)
            subjects.add(subject)
            return _opened_value(value, subject, sealed, associated_data(event_id, path), keys)
        return value

    with _damage_is_a_value_error():
        return Opened(_repacked(open_(_unpacked(packed, 0), (root,), 0)), frozenset(subjects))


@contextmanager
def _damage_is_a_value_error() -> Generator[None, None, None]:
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # Whatever damaged bytes lead to.
        if raised_by_a_signal(error):
            raise
        raise ValueError(str(error) or type(error).__name__) from error


def _opened_value(value: _SealedBytes, subject: str, sealed: bytes, associated: bytes, keys: Keys | None) -> Any:
    cipher = None if keys is None else _cipher_of(subject, keys)
    if cipher is None:
        return untyped_msgpack.ExtType(SEALED, value.payload)
    return _unpacked(cipher.open(sealed, associated), 0, plain=True)


def parsed(payload: bytes) -> tuple[str, bytes]:
    """The subject of a sealed value, and its ciphertext. Raises ValueError."""
    try:
        subject, sealed = untyped_msgpack.unpackb(payload, ext_hook=_subject_uuid)
    except Exception as error:
        if raised_by_a_signal(error):
            raise
        raise ValueError("a sealed value is not an array of a subject and bytes") from error
    if type(subject) is not str or type(sealed) is not bytes:
        raise ValueError("a sealed value is not an array of a subject and bytes")
    return subject, sealed


def _subject_uuid(code: int, payload: bytes) -> str:
    if code != UUID_:
        raise ValueError("a subject is a text or a UUID")
    return _text_of(payload)


def _unpacked(packed: bytes, depth: int, *, plain: bool = False) -> Any:
    """Msgpack values, with extension types as they are but for containers that hold something sealed."""
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")

    def extension(code: int, payload: bytes) -> Any:
        if code == SEALED and not plain:
            return _SealedBytes(payload)
        if not plain and code in CONTAINERS and _SEALED_HEAD.search(payload):
            return _Container(code, _unpacked(payload, depth + 1))
        return untyped_msgpack.ExtType(code, payload)

    return untyped_msgpack.unpackb(packed, ext_hook=extension, strict_map_key=False)


def _packed_container(container: _Container, open_: Callable[[Any, Path], Any]) -> Any:
    """A tuple, a set or a dataclass with what is in it opened. A step to a field is its name, to a member its index."""
    code, content = container
    if type(content) is not list:
        raise ValueError("the payload of a container is an array")
    items = cast("list[Any]", content)
    if code == DATACLASS and len(items) > 1:
        made = [items[0], open_(items[1], ()), *items[2:]]
    else:
        made = [open_(item, (number,)) for number, item in enumerate(items)]
    return untyped_msgpack.ExtType(code, _repacked(made))


def _repacked(value: Any) -> bytes:
    packed: bytes = untyped_msgpack.packb(value, default=_sealed_again, strict_types=False)
    return packed


def _sealed_again(value: Any) -> Any:
    raise ValueError(f"a {type(value).__name__} can't stand there")


# --- what could not be opened -----------------------------------------------------------------------------------------


def fill_placeholders(marks: Marks, values: dict[str, Any], path: Path = ()) -> list[str]:
    """Put placeholders where a class's values are still sealed, and return the paths to them.

    Raises ValueError for a sealed value in a field that names no placeholder.
    """
    found: list[str] = []
    for name, value in values.items():
        if type(value) is Sealed:
            personal = marks.personal.get(name)
            if personal is None:
                raise ValueError(
                    f"{path_text((*path, name))} is sealed, and its field names no placeholder: mark it with "
                    "Personal(...), or let the upcaster put one there"
                )
            values[name] = placeholder_of(personal)
            found.append(path_text((*path, name)))
        elif type(value) not in IMMUTABLE:
            found += _fill(value, (*path, name))
    return found


def _fill(value: Any, path: Path) -> list[str]:
    """The same for whatever a value holds."""
    kind = cast("type[Any]", type(value))
    parts: Iterable[tuple[Any, Any]] = ()
    if kind is Sealed:
        raise ValueError(f"{path_text(path)} is sealed, in no field with a placeholder: has an upcaster moved it?")
    if kind is dict:
        parts = value.items()
    elif kind in {list, tuple, set, frozenset}:
        parts = enumerate(cast("Iterable[Any]", value))
    elif is_dataclass(value) and not isinstance(value, type):
        values = {field.name: getattr(value, field.name, None) for field in fields(value)}
        found = fill_placeholders(marks_of(kind), values, path)
        if found:
            for name, item in values.items():
                object.__setattr__(value, name, item)
        return found
    return [each for step, item in parts if type(item) not in IMMUTABLE for each in _fill(item, (*path, step))]


def fill_metadata(marked: Mapping[str, Personal], metadata: dict[Any, Any]) -> list[str]:
    """Put placeholders where metadata is still sealed, None for keys without a mark, and return the paths to them."""
    found: list[str] = []
    for key, value in metadata.items():
        if type(value) is Sealed:
            metadata[key] = placeholder_of(marked.get(key) or Personal())
            found.append(f"metadata.{key}")
    return found


def sealed_paths(value: Any, path: Path = ()) -> list[str]:
    """The paths to what is still sealed in the data of an event without a class."""
    if type(value) is Sealed:
        return [path_text(path)]
    parts: Iterable[tuple[Any, Any]] = ()
    if type(value) is dict:
        parts = cast("dict[Any, Any]", value).items()
    elif type(value) in {list, tuple, set, frozenset}:
        parts = enumerate(cast("Iterable[Any]", value))
    elif is_dataclass(value) and not isinstance(value, type):
        parts = ((field.name, getattr(value, field.name, None)) for field in fields(value))
    return [each for step, item in parts if type(item) not in IMMUTABLE for each in sealed_paths(item, (*path, step))]
