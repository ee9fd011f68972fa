"""What a store's author says that the store can do; what it can't is skipped, and said so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, TypeVar

import pytest

F = TypeVar("F", bound=Callable[..., object])

Capability: TypeAlias = Literal["transactions", "global_order", "idempotency", "concurrency", "closing"]


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a store can do. By default everything, as InMemoryEventStore and PostgresEventStore can."""

    transactions: bool = True
    """``transaction()`` makes several appends one."""
    global_order: bool = True
    """``read_all`` returns the events of all streams in one order."""
    idempotency: bool = True
    """Events that are appended again are recognised by their ids."""
    closing: bool = True
    """``close_stream`` and ``retire`` mark streams."""
    concurrency: bool = True
    """Many threads can use the store at once, even while one of them has a transaction open."""


def needs(*capabilities: Capability) -> Callable[[F], F]:
    """Marks a test of the contract that asks for these, or all tests of a topic."""

    def mark(marked: F) -> F:
        topic = isinstance(marked, type)
        for test in [value for name, value in vars(marked).items() if name.startswith("test_")] if topic else [marked]:
            test.__dict__["needs"] = (*capabilities, *needed_by(test))
        return marked

    return mark


def needed_by(test: object) -> tuple[Capability, ...]:
    """What a test asks for."""
    return getattr(test, "needs", ())


class Topic:
    """A part of the contract."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    """What the store can do. To be overridden with what it can't: ``Capabilities(transactions=False)``."""

    @pytest.fixture(autouse=True)
    def skip_what_the_store_lacks(self, request: pytest.FixtureRequest) -> None:
        """Skip a test that asks for a capability which the store does not declare."""
        lacking = [name for name in needed_by(request.function) if not getattr(self.capabilities, name)]
        if lacking:
            pytest.skip(f"the store declares no {', no '.join(lacking)}")
