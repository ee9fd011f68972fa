"""What a handler of a signal raises, such as a task queue's time limit, reaches the program from anywhere."""

from __future__ import annotations

import ast
import enum
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest

import eventstore
from eventstore import Event, InMemoryEventStore, Projection, batched
from eventstore.codec import annotations, decoding, encoding, personal, registry, sealing, typed_json, upcasting
from eventstore.eventlock import samples
from eventstore.privacy import InMemorySubjectKeys, Personal, Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(eventstore.__file__).parent
MAP = b"\x81\xa1a\x01"


class TimeIsUp(Exception):
    """What a task queue raises in a handler of a signal."""


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    def limit(*_: object) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGUSR1, limit)
    yield
    signal.signal(signal.SIGUSR1, before)


def interrupted(*_: object, **__: object) -> Any:
    signal.raise_signal(signal.SIGUSR1)


class Color(enum.Enum):
    RED = 1


@dataclass
class Held:
    color: Color


class Registered(Event):
    member: Annotated[str, Subject()]
    email: Annotated[str, Personal("")]


def read_sealed() -> list[Event]:
    store = InMemoryEventStore(subject_keys=InMemorySubjectKeys())
    store.append("s", [Registered(member="ann", email="ann@example.org")], 0)
    return store.read("s")


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (encoding, "_pack", lambda: encoding.encode("T", {"a": 1})),
        (decoding, "_unpack", lambda: decoding.decode(MAP)),
        (typed_json, "_unpacked", lambda: typed_json.to_json(MAP)),
        (sealing, "_unpacked", lambda: sealing.opened(MAP, b"", "data", None)),
        (sealing.untyped_msgpack, "unpackb", lambda: sealing.parsed(b"\x92\xa1a\xc4\x01b")),
        (sealing, "decode_value", read_sealed),
        (annotations, "resolved", lambda: annotations.described(Held, "Color")),
        (registry, "resolved", lambda: registry._hints(Held)),
        (personal, "resolved", lambda: personal._evaluated(Held, "color", "Color")),
        (samples, "resolved", lambda: samples.sample_instance(Held)),
    ],
)
def test_what_a_signal_raises_is_not_taken_for_damage(
    module: Any, name: str, call: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, interrupted)
    with pytest.raises(TimeIsUp):
        call()


def test_what_a_signal_raises_in_an_upcaster_is_not_an_error_of_the_upcaster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upcasting, "chain_of", lambda _: [interrupted])
    with pytest.raises(TimeIsUp):
        upcasting.upcast(Held, {}, 1)


@pytest.mark.parametrize("handle", [interrupted, batched(interrupted)])
def test_what_a_signal_raises_in_a_handler_ends_the_run_and_is_no_attempt(handle: Callable[..., None]) -> None:
    store = InMemoryEventStore()
    store.append("s", [Event(event_type="T")], 0)
    follower = Projection(store, "p", handle, on_failure="park", attempts=1)
    with pytest.raises(TimeIsUp):
        follower.run_until_caught_up()
    assert follower.parked() == []


ELSEWHERE = {"cli", "testing", "contrib", "explorer", "postgres.embedded"}
"""Programs of their own, threads that no signal reaches, and those that hold whatever is raised and raise it later."""
KEPT = {"core.blocking", "core.asynchronous"}
"""What they catch is handed to the operation, which raises what it does not know."""
LEFT = {"subscriptions.following"}
"""Notes what ended it, and raises it again."""


def test_whoever_catches_every_exception_lets_those_of_signals_pass() -> None:
    found: list[str] = []
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if module.startswith(tuple(ELSEWHERE)) or module in KEPT | LEFT:
            continue
        found += [
            f"{module}:{node.lineno}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ExceptHandler)
            and isinstance(node.type, ast.Name)
            and node.type.id == "Exception"
            and not any(isinstance(part, ast.Name) and part.id == "raised_by_a_signal" for part in ast.walk(node))
        ]
    assert found == []
