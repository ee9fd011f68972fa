"""Contenders take turns, and what counts is the ratio within each round: other load on the machine hits all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

Contender: TypeAlias = Callable[[], object]


def seconds(work: Contender) -> float:
    """How long it takes, once."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@dataclass(frozen=True)
class Ratio:
    """How often as long something took as something else, over the rounds."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        low, _, high = statistics.quantiles(self.values, n=4) if len(self.values) > 1 else [self.values[0]] * 3
        return f"{self.median:.2f} ({low:.2f} to {high:.2f})"

    @property
    def inverse(self) -> Ratio:
        return Ratio([1 / value for value in self.values])


class Rounds:
    """So many rounds of all contenders, each in an order of its own: who comes after a heavy one has cold caches."""

    def __init__(self, contenders: Mapping[str, Contender], count: int) -> None:
        names, orders = list(contenders), Random(0)  # noqa: S311 no secret
        self.times: dict[str, list[float]] = {name: [] for name in names}
        for contender in contenders.values():
            contender()  # Once for the caches, connections and prepared statements.
        for _ in range(count):
            for name in orders.sample(names, len(names)):
                self.times[name].append(seconds(contenders[name]))

    def ratio(self, one: str, other: str) -> Ratio:
        """The time of one, as a multiple of the other's."""
        return Ratio([a / b for a, b in zip(self.times[one], self.times[other], strict=True)])

    def speed(self, of: str, against: str) -> Ratio:
        """The speed of one, as a multiple of the other's."""
        return self.ratio(against, of)


class Table:
    """A table in Markdown, printed row by row."""

    def __init__(self, title: str, *headings: str) -> None:
        print(f"\n### {title}\n")
        self._print(headings)
        self._print(["---"] * len(headings))

    def row(self, *cells: object) -> None:
        self._print([str(cell) for cell in cells])

    def _print(self, cells: Sequence[str]) -> None:
        print(f"| {' | '.join(cells)} |", flush=True)
