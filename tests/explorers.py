"""Looking at the explorer's pages without a browser."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from werkzeug.test import Client, TestResponse

from eventstore.explorer import Explorer

LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:8000"}
"""What a server says of a browser on this machine."""
MOST_PAGES = 20


def page(explorer: Explorer, path: str) -> TestResponse:
    """The answer to a browser on this machine."""
    return Client(explorer).get(path, environ_overrides=LOCAL, buffered=True)


def words(answer: TestResponse) -> str:
    """What a reader sees."""
    text = re.sub(r"<(script|style|title).*?</\1>", " ", answer.text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def links(answer: TestResponse, to: str) -> list[str]:
    """The first argument of each link to a page."""
    return [html.unescape(found) for found in re.findall(rf'href="/{to}\?\w+=([^"&]+)', answer.text)]


def following(answer: TestResponse) -> str | None:
    """Where the next page is."""
    found = re.search(r'rel="next" href="([^"]+)"', answer.text)
    return None if found is None else html.unescape(found[1])


def walked(explorer: Explorer, path: str) -> Iterator[TestResponse]:
    """A page, and all that follow it."""
    place: str | None = path
    for _ in range(MOST_PAGES):
        if place is None:
            return
        answer = page(explorer, place)
        assert answer.status_code == 200, answer.text
        yield answer
        place = following(answer)
    raise AssertionError(f"{path} has more than {MOST_PAGES} pages: does it lead in a circle?")
