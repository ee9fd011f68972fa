"""The store on SQLite of docs/own-store.md passes the contract, and behaves as the store in memory does."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from baskets import Basket
from hypothesis import settings

from eventstore import Event, InMemoryEventStore, Repository
from eventstore.core.subscription_requests import ListSubscriptions
from eventstore.testing import Capabilities
from eventstore.testing.state_machine import StoreMachine

if TYPE_CHECKING:
    from eventstore import EventStore

PAGE = Path(__file__).parents[1] / "docs" / "own-store.md"
page: dict[str, Any] = {"__name__": __name__}
for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
    exec(compile(block, PAGE.name, "exec"), page)  # noqa: S102 the page is the project's

SqliteEventStore = page["SqliteEventStore"]
TestContract = page["TestSqliteEventStore"]


class SqliteMachine(StoreMachine):
    capabilities = Capabilities(concurrency=False, closing=False)

    def make_stores(self) -> dict[str, EventStore]:
        return {"sqlite": SqliteEventStore(":memory:"), "memory": InMemoryEventStore()}

    def teardown(self) -> None:
        super().teardown()
        self.stores["sqlite"].close()  # type: ignore[attr-defined] # it is the page's class


TestHistories = SqliteMachine.TestCase
TestHistories.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)


def test_events_are_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    with closing(SqliteEventStore(tmp_path / "events.db")) as store:
        store.append("s", [Event(event_type="T")], 0)
    with closing(SqliteEventStore(tmp_path / "events.db")) as store:
        assert [event.version for event in store.read("s")] == [1]


def test_repositories_and_commands_work_on_a_store_of_ones_own() -> None:
    with closing(SqliteEventStore(":memory:")) as store:
        baskets = Repository(store, Basket)
        basket = Basket("b")
        basket.add(1, 2)
        assert baskets.save(basket).position == 2
        for _ in range(2):
            assert baskets.update("b", lambda basket: basket.add(3), command_id="once").version == 3


def test_a_request_that_an_own_store_does_not_answer_is_named() -> None:
    with (
        closing(SqliteEventStore(":memory:")) as store,
        pytest.raises(NotImplementedError, match="does not answer ListSubscriptions"),
    ):
        store.execute(ListSubscriptions(None))
