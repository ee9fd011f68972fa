"""The page on changing events: each of its ten changes, on both stores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from eventstore import Repository

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventstore import EventStore

PAGE = (Path(__file__).parents[1] / "docs" / "changing-events.md").read_text("utf-8")
IMPORTS = "from enum import Enum\nfrom eventstore import handles\n"


def changes() -> dict[str, list[str]]:
    """The blocks of code of each numbered section."""
    sections = re.split(r"^### (\d+\. .+)$", PAGE.split("\n## Upcasters")[0], flags=re.MULTILINE)[1:]
    return {
        title: re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for title, text in zip(sections[::2], sections[1::2], strict=True)
    }


def test_the_page_shows_ten_changes() -> None:
    assert [int(title.split(".")[0]) for title in changes()] == list(range(1, 11))


@pytest.mark.parametrize("title", changes())
def test_the_change_is_read_as_the_page_says(store: EventStore, release: Callable[[str], Any], title: str) -> None:
    before, after = changes()[title]
    store.append("Order-1", [release(IMPORTS + before).stored], 0)
    module = release(IMPORTS + after)
    claims = re.findall(r"^# (.+)$", after, re.MULTILINE)
    assert claims
    (event,) = store.read("Order-1")
    known = vars(module) | {"event": event}
    if "Order" in known:
        known["order"] = Repository(store, module.Order).load("1")
    for claim in claims:
        assert eval(claim, known), claim  # noqa: S307 our own page


def test_the_message_of_a_refused_change_is_the_one_on_the_page(release: Callable[[str], Any]) -> None:
    from eventstore.eventlock import compared, described_program  # noqa: PLC0415 only here

    before, after = changes()["3. A field with another name"]
    release(IMPORTS + before.split("\n\n\nstored")[0])
    lock = described_program(["shopevents"])
    release(IMPORTS + after.split("\n\n\n@upcasts")[0].replace(", revision=2", ""))
    assert str(compared(lock)[0]) in PAGE
