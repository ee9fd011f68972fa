"""Judges a campaign by its histories and the final table. It knows nothing else: it imports nothing of eventstore.

``python checker.py DIRECTORY`` prints one JSON object: facts, the number of anomalies of each kind, and examples.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

ANOMALIES = {
    "acknowledged, lost": "acknowledged events that are not in the table",
    "acknowledged, elsewhere": "acknowledged with another version than the table's, or with two versions",
    "acknowledged, torn": "events of one append that do not follow each other",
    "not behind what was expected": "the first version is not the expected one plus 1",
    "refused, visible": "refused for certain, and yet in the table",
    "refused without a reason": "a conflict where the stream was as expected, or might be anywhere",
    "refused again, though stored": "a conflict for the same events that had been acknowledged at the same place",
    "unknown, half there": "an append or transaction of unknown outcome that is there in part",
    "duplicate event id": "one event stored twice",
    "duplicate version": "two events at one version of a stream",
    "duplicate position": "two events at one position",
    "version gap": "a version of a stream that is missing",
    "position against version": "a later version of a stream at an earlier position",
    "never invoked": "an event that no worker has appended",
    "against real time": "an append that was acknowledged before another was invoked, and comes after it",
    "reader skipped": "events that a reader has passed",
    "reader out of order": "events that a reader got after later ones, or twice",
    "reader saw what is not there": "events that a reader got and that are not in the table",
    "reader did not reach the end": "a reader that stopped before the last event",
    "reader stalled": "a reader that went on 10 s or more (30 after a crash) after the end of what it waited for",
    "transaction left open": "a writer's session that was idle in a transaction for 3 s, where no writer rests",
    "subscription skipped": "events that a subscription's handler never got",
    "projection skipped": "events that a projection passed without their effect",
    "projection doubled": "events whose effect is there twice, or of events that are not there",
    "forgotten, readable": "personal data that could be read key_ttl after its subject was said to be forgotten",
    "surprise": "an append that ended with another error than the typed ones",
}
_EXAMPLES = 5
_STALLED_SECONDS = {False: 10.0, True: 30.0}
"""Without and with a crash meanwhile, after which a pool waits longer and longer between attempts to connect."""
_LAG_SECONDS = 1.0
_CONNECTING_SECONDS = 2.0
_KEY_TTL = 1.0
"""Seconds for which a process may remember a key."""
_COUNTED = ("ahead-", "held-")
"""How the streams begin whose events the projection counts."""
_CRASHES = {"backend killed", "immediate restart", "postmaster killed"}


class Row(NamedTuple):
    """An event in the table."""

    position: int
    stream: str
    version: int
    event_id: str


@dataclass
class Append:
    """An append or a transaction, with all attempts at it: those with the same ids."""

    parts: Sequence[tuple[str, int, Sequence[str]]]
    """Streams, with the expected version (below 0: any) and the ids."""
    invoked: float
    outcomes: list[str] = field(default_factory=list[str])
    acknowledged: float = float("inf")
    versions: set[tuple[int, ...]] = field(default_factory=set[tuple[int, ...]])

    @property
    def outcome(self) -> str:
        """One of "ok", "failed" and "unknown"."""
        if self.versions:
            return "ok"
        # A conflict shows for certain that no earlier attempt was stored either: it would have been recognised.
        last_doubt = max((i for i, outcome in enumerate(self.outcomes) if outcome == "unknown"), default=-1)
        later = self.outcomes[last_doubt + 1 :]
        return "failed" if last_doubt < 0 or "conflict" in later else "unknown"


class Checker:
    """Counts anomalies."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = defaultdict(list)
        self._outcomes: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._holds: list[tuple[float, float]] = []
        self._appends = self._read_appends()
        self._crashes = sorted(
            line["t"] for _, lines in self._histories("faults") for line in lines if line["kind"] in _CRASHES
        )
        self._rows = sorted(
            Row(int(position), stream, int(version), event_id.replace("-", ""))
            for position, stream, version, event_id in (
                line.split("\t") for line in (directory / "events.tsv").read_text().splitlines()
            )
        )
        self._by_id: dict[str, list[Row]] = defaultdict(list)
        self._by_stream: dict[str, list[Row]] = defaultdict(list)
        for row in self._rows:
            self._by_id[row.event_id].append(row)
            self._by_stream[row.stream].append(row)

    def report(self) -> dict[str, Any]:
        """The verdict."""
        self._check_table()
        for append in self._appends.values():
            self._check_append(append)
        self._check_real_time()
        lags = self._check_readers()
        self._check_followers()
        forgotten = self._check_forgotten()
        outcomes = Counter(append.outcome for append in self._appends.values())
        return {
            "facts": {
                "appends acknowledged": outcomes["ok"],
                "appends refused": outcomes["failed"],
                "appends of unknown outcome": outcomes["unknown"],
                "acknowledged again (same ids)": self._outcomes["ok"] - outcomes["ok"],
                "events in the table": len(self._rows),
                "subjects forgotten": forgotten,
                **{f"calls that ended with {error}": number for error, number in sorted(self._errors.items())},
                **_lag_facts(lags),
            },
            "anomalies": {kind: self._counts[kind] for kind in ANOMALIES},
            "examples": self._examples,
        }

    def _found(self, kind: str, what: object, number: int = 1) -> None:
        self._counts[kind] += number
        if len(self._examples[kind]) < _EXAMPLES:
            self._examples[kind].append(str(what))

    def _histories(self, *roles: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for role in roles:
            for path in sorted(self._directory.glob(f"{role}*.jsonl")):
                lines = path.read_bytes().splitlines(keepends=True)
                # The last line of a worker that was killed may be cut off: it did not get any further then.
                yield path.name, [json.loads(line) for line in lines if line.endswith(b"\n")]

    def _read_appends(self) -> dict[str, Append]:
        appends: dict[str, Append] = {}
        for name, lines in self._histories("writer", "holder"):
            calls: dict[int, Append] = {}
            for line in lines:
                what = line["what"]
                if what == "invoked":
                    key = line["parts"][0][2][0]
                    append = appends.setdefault(key, Append(line["parts"], line["t"]))
                    append.outcomes.append("unknown")  # Until it is known.
                    calls[line["call"]] = append
                elif what == "held":
                    self._holds.append((line["drawn"], line["t"]))
                elif what != "end":
                    self._note(calls[line["call"]], line, name)
        return appends

    def _note(self, append: Append, line: dict[str, Any], name: str) -> None:
        what: str = line["what"]
        self._outcomes[what] += 1
        append.outcomes[-1] = what
        if what == "ok":
            append.acknowledged = min(append.acknowledged, line["t"])
            append.versions.add(tuple(line["versions"]))
            return
        self._errors[line["error"]] += 1
        if what == "surprise":
            self._found("surprise", f"{name}: {line['error']}: {line['text']}")
            append.outcomes[-1] = "unknown"
        elif line.get("actual") is not None:
            append.outcomes[-1] = "conflict"
            if append.versions:
                self._found("refused again, though stored", f"{name}: {line['text']}")
            elif any(part[0] == line["stream"] and part[1] in {line["actual"], -1} for part in append.parts):
                self._found("refused without a reason", f"{name}: {line['text']}")

    def _check_table(self) -> None:
        for rows in self._by_id.values():
            if len(rows) > 1:
                self._found("duplicate event id", rows)
        for one, two in pairwise(self._rows):
            if one.position == two.position:
                self._found("duplicate position", (one, two))
        for rows in self._by_stream.values():
            before = Row(0, "", 0, "")
            for row in sorted(rows, key=lambda row: row.version):
                if row.version == before.version:
                    self._found("duplicate version", (before, row))
                elif row.version != before.version + 1:
                    self._found("version gap", (before, row))
                if row.position < before.position:
                    self._found("position against version", (before, row))
                before = row
        invoked = {event_id for append in self._appends.values() for part in append.parts for event_id in part[2]}
        for event_id, rows in self._by_id.items():
            if event_id not in invoked:
                self._found("never invoked", rows)

    def _check_append(self, append: Append) -> None:
        parts = [[self._by_id.get(event_id) for event_id in part[2]] for part in append.parts]
        there = [rows is not None for part in parts for rows in part]
        outcome = append.outcome
        if outcome == "ok" and not all(there):
            self._found("acknowledged, lost", append, there.count(False))
        elif outcome == "failed" and any(there):
            self._found("refused, visible", append)
        elif outcome == "unknown" and any(there) and not all(there):
            self._found("unknown, half there", append)
        if len(append.versions) > 1:
            self._found("acknowledged, elsewhere", append)
        if all(there):
            self._check_places(append, [[rows[0] for rows in part if rows] for part in parts])

    def _check_places(self, append: Append, parts: Sequence[Sequence[Row]]) -> None:
        for number, (rows, (stream, expected, _)) in enumerate(zip(parts, append.parts, strict=True)):
            first, last = rows[0].version, rows[-1].version
            if [row.version for row in rows] != list(range(first, first + len(rows))):
                self._found("acknowledged, torn", append)
            if any(row.stream != stream for row in rows) or any(last != acked[number] for acked in append.versions):
                self._found("acknowledged, elsewhere", append)
            if expected >= 0 and first != expected + 1:
                self._found("not behind what was expected", append)

    def _check_real_time(self) -> None:
        """In each stream, and in the log: what was acknowledged first stands first."""
        of_event = {
            event_id: append for append in self._appends.values() for part in append.parts for event_id in part[2]
        }
        by_version = [sorted(rows, key=lambda row: row.version) for rows in self._by_stream.values()]
        for rows in (self._rows, *by_version):
            latest: Append | None = None
            for row in rows:
                append = of_event.get(row.event_id)
                if append is None:
                    continue
                if latest is not None and append.acknowledged < latest.invoked:
                    self._found("against real time", (latest, append))
                if latest is None or append.invoked > latest.invoked:
                    latest = append

    def _check_readers(self) -> list[tuple[float, bool]]:
        """Each log is a part of the final order without a gap. Returns what _lags does, for all of them."""
        runs = list(self._histories("reader"))
        last_runs = {name.partition(".")[0]: name for name, _ in runs}
        acknowledged = sorted(
            (append.acknowledged, max(positions))
            for append in self._appends.values()
            if append.versions and (positions := self._positions(append))
        )
        lags: list[tuple[float, bool]] = []
        for name, lines in runs:
            if not lines:
                continue
            reached = self._check_log(name, lines)
            if name in last_runs.values() and self._rows and reached < self._rows[-1].position:
                self._found("reader did not reach the end", f"{name}: {reached} of {self._rows[-1].position}")
            lags += self._lags(lines, acknowledged)
        for lag, crashed in lags:
            if lag >= _STALLED_SECONDS[crashed]:
                self._found("reader stalled", f"{lag:.1f} s")
        return lags

    def _check_followers(self) -> None:
        """A projection's effects are there exactly once, a subscription's handler was given every event."""
        effects = self._directory / "counted.tsv"
        if not effects.exists():
            return  # Nobody followed: the campaign always writes it.
        for _, lines in self._histories("faults"):
            self._found_if("transaction left open", [line for line in lines if line.get("number")])
        stored = {row.position for row in self._rows}
        counting = {row.position for row in self._rows if row.stream.startswith(_COUNTED)}
        counted = {
            int(position): int(times)
            for position, times in (line.split("\t") for line in effects.read_text().splitlines())
        }
        handled = {line.get("position") for _, lines in self._histories("follower") for line in lines}
        self._found_if("subscription skipped", sorted(stored - handled))
        self._found_if("projection skipped", sorted(counting - counted.keys()))
        doubled = [position for position, times in counted.items() if times != 1 or position not in stored]
        self._found_if("projection doubled", doubled)

    def _check_forgotten(self) -> int:
        """Nothing of a subject can be read once it is forgotten. Returns how many were."""
        forgotten = {
            line["member"]: line["t"]
            for _, lines in self._histories("forgetter")
            for line in lines
            if line["what"] == "forgotten"
        }
        for name, lines in self._histories("watcher"):
            for line in lines:
                late = [
                    member
                    for member in line.get("members", ())
                    if line["began"] > forgotten.get(member, float("inf")) + _KEY_TTL
                ]
                self._found_if("forgotten, readable", [f"{name}: {member}" for member in late])
        return len(forgotten)

    def _found_if(self, kind: str, several: Sequence[object]) -> None:
        if several:
            self._found(kind, several[:_EXAMPLES], len(several))

    def _positions(self, append: Append) -> list[int]:
        ids = (event_id for part in append.parts for event_id in part[2])
        return [row.position for event_id in ids for row in self._by_id.get(event_id, ())]

    def _check_log(self, name: str, lines: Sequence[dict[str, Any]]) -> int:
        """Compare what one run of a reader got with the table; returns the position that it got to."""
        reached: int = lines[0]["position"]
        at = bisect_right(self._rows, reached, key=lambda row: row.position)
        for line in lines[1:]:
            for event in line.get("events", ()):
                row = Row(*event)
                if at < len(self._rows) and row == self._rows[at]:
                    at += 1
                elif row.position <= reached:
                    self._found("reader out of order", f"{name}: {row} behind position {reached}")
                    continue
                else:
                    found = bisect_left(self._rows, row)
                    if found == len(self._rows) or self._rows[found] != row:
                        self._found("reader saw what is not there", f"{name}: {row}")
                        found = bisect_right(self._rows, row.position, key=lambda row: row.position) - 1
                    if found > at:
                        self._found("reader skipped", f"{name}: {self._rows[at]} before {row}", found - at)
                    at = found + 1
                reached = row.position
        return reached

    def _lags(
        self, lines: Sequence[dict[str, Any]], acknowledged: Sequence[tuple[float, int]]
    ) -> list[tuple[float, bool]]:
        """For each transaction held open: how long after its end a reader had all that was acknowledged by then.

        And whether the server crashed meanwhile, or so shortly before that the reader was still connecting.
        """
        pages = [(line["events"][-1][0], line["t"]) for line in lines if line["what"] == "read"]
        began, ended = lines[0]["t"], lines[-1]["t"]
        lags: list[tuple[float, bool]] = []
        for drawn, end in self._holds:
            during = acknowledged[bisect_left(acknowledged, (drawn, 0)) : bisect_right(acknowledged, (end, 0))]
            if not during or drawn < began or end > ended:
                continue
            page = bisect_left(pages, (max(position for _, position in during), 0.0))
            if page < len(pages):
                seen = pages[page][1]
                crash = bisect_left(self._crashes, drawn - _CONNECTING_SECONDS)
                lags.append((max(0.0, seen - end), crash < len(self._crashes) and self._crashes[crash] < seen))
        return lags


def _lag_facts(lags: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """How long readers took to continue after a held transaction had ended."""
    facts: dict[str, Any] = {}
    for crashed in (False, True):
        chosen = sorted(lag for lag, other in lags if other is crashed)
        when = "crash" if crashed else "no crash"
        if chosen:
            facts |= {
                f"waits for a held transaction, {when} meanwhile": len(chosen),
                f"seconds after its end, {when}: median": round(chosen[len(chosen) // 2], 3),
                f"seconds after its end, {when}: longest": round(chosen[-1], 3),
                f"within 1 s of its end, {when}": sum(lag <= _LAG_SECONDS for lag in chosen),
            }
    return facts


if __name__ == "__main__":
    json.dump(Checker(Path(sys.argv[1])).report(), sys.stdout)
