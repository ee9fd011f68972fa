"""The library's log: one tree of loggers, records with attributes, nothing secret."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

import eventstore
from eventstore import Event, InMemoryEventStore, Subscription, SubscriptionFailed
from eventstore.core.logs import repository_log, store_log, subscription_log


def test_a_failed_attempt_has_its_facts_as_attributes(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Event) -> None:
        raise ValueError("no\nsuch")

    store = InMemoryEventStore()
    store.append("Order-1", [Event(event_type="T", data={"secret": "s3cret"})], 0)
    with pytest.raises(SubscriptionFailed):
        Subscription(store, "mails", fail, attempts=1).run_until_caught_up()
    *_, record = caplog.records
    facts = {name: getattr(record, name) for name in ("subscription", "position", "attempt", "error_type")}
    assert record.name == "eventstore.subscription"
    assert facts == {"subscription": "mails", "position": 1, "attempt": 1, "error_type": "ValueError"}
    assert "s3cret" not in caplog.text
    assert re.search(r"^    ValueError: no\\nsuch$|^    ValueError: no$", record.exc_text or "", re.MULTILINE)


def test_every_logger_stands_below_eventstore_and_cleans_tracebacks() -> None:
    for log in (store_log, repository_log, subscription_log):
        assert log.name.startswith("eventstore.")
        assert log.filters
        assert log.level == logging.NOTSET
        assert not log.handlers


def test_nothing_else_in_the_package_makes_a_logger_of_its_own() -> None:
    root = Path(eventstore.__file__).parent
    makers = [path.relative_to(root).as_posix() for path in root.rglob("*.py") if "getLogger(" in path.read_text()]
    makers = [each for each in makers if not each.startswith("testing/")]
    assert sorted(makers) == ["cli/command_line.py", "cli/telling.py", "core/logs.py"]


def test_the_documentation_lists_every_attribute() -> None:
    source = "".join(path.read_text() for path in Path(eventstore.__file__).parent.rglob("*.py"))
    extras = re.findall(r"extra=\{(.*?)\}", source, re.DOTALL)
    attributes = {name for extra in extras for name in re.findall(r'"(\w+)":', extra)}
    page = (Path(__file__).parents[1] / "docs" / "seeing.md").read_text()
    assert attributes
    assert [name for name in sorted(attributes) if f"`{name}`" not in page] == []
