"""How far subscriptions were behind, as the explorer has seen it: in memory, and never more than so many samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from threading import Lock
from typing import NamedTuple, TypeAlias

from eventstore.health import Health

MOST_SAMPLES = 1_000
APART = timedelta(seconds=4)
"""Looks that follow each other sooner are one sample."""
_UNSEEN = timedelta(seconds=60)
"""Between samples that are further apart nothing is drawn."""
_WIDTH, _HEIGHT = 1000, 100


class _Sample(NamedTuple):
    at: datetime
    behind: dict[str, tuple[int, float]]
    """Positions and seconds, by subscription."""


class Chart(NamedTuple):
    """Something over time, as lines in a picture of 1,000 by 100."""

    lines: Sequence[str]
    """Each as the path of an SVG."""
    most: float
    first: datetime
    last: datetime


class Lag:
    """The samples of one explorer."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=MOST_SAMPLES)
        self._lock = Lock()

    def note(self, health: Health) -> None:
        """Keep what a look at the store has found, if it could be looked at."""
        now = datetime.now(UTC)
        found = {each.name: (each.positions_behind, each.seconds_behind) for each in health.subscriptions}
        with self._lock:
            if health.error is None and not (self._samples and now - self._samples[-1].at < APART):
                self._samples.append(_Sample(now, found))

    def charts(self, name: str, points: int) -> tuple[Chart, Chart] | None:
        """How many positions, and how many seconds a subscription was behind; None before the first sample of it.

        Each has about so many points: of several samples it shows the largest.
        """
        with self._lock:
            samples = list(self._samples)
        seen = [(each.at, *each.behind[name]) for each in samples if name in each.behind]
        if not seen:
            return None
        thinned = len(seen) // points + 1
        return _chart([(at, count) for at, count, _ in seen], thinned), _chart([(at, s) for at, _, s in seen], thinned)


_Point: TypeAlias = tuple[datetime, float]


def _chart(points: Sequence[_Point], thinned: int) -> Chart:
    first, last = points[0][0], points[-1][0]
    most = max(value for _, value in points)
    lines: list[str] = []
    for run in _runs(points):
        shown = [max(run[at : at + thinned], key=itemgetter(1)) for at in range(0, len(run), thinned)]
        places = [_place(at - first, last - first, value, most) for at, value in shown]
        lines.append(f"M{places[0]}h0" + "".join(f"L{place}" for place in places[1:]))  # A dot, if nothing follows.
    return Chart(lines, most, first, last)


def _runs(points: Sequence[_Point]) -> list[list[_Point]]:
    """The points in pieces, between which nobody looked for long."""
    found: list[list[_Point]] = []
    for point in points:
        if found and point[0] - found[-1][-1][0] <= _UNSEEN:
            found[-1].append(point)
        else:
            found.append([point])
    return found


def _place(time: timedelta, whole: timedelta, value: float, most: float) -> str:
    x = _WIDTH * (time / whole if whole else 1)
    y = _HEIGHT - (_HEIGHT * value / most if most else 0)
    return f"{x:.1f} {y:.1f}"
