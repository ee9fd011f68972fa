"""Who is in the way: the transactions that readers of the log, or writers, wait for. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class BlockingSession:
    """A session, or a prepared transaction, that holds others back."""

    holds: Literal["readers", "writers", "table", "subscription"]
    """Whom: readers of the log, at a position; writers, by a lock such as a stream's; both, by a lock on the table; the
    workers of a subscription, by a lock on its checkpoint."""
    pid: int | None
    """The process of the server; None for a prepared transaction, and in memory."""
    prepared: str | None
    """The identifier of a prepared transaction."""
    role: str | None
    application: str | None
    """What the program calls itself: ``application_name`` in its DSN."""
    state: str | None
    """As in pg_stat_activity, such as "idle in transaction"; None where this role may not see it."""
    since: datetime | None
    """When its transaction began; None where this role may not see it."""
    position: int | None
    """Readers of the log, or the subscription, have to stop there."""
    waiting: int
    """How many sessions wait for its lock."""
    waiting_since: datetime | None
    """Since when the first of them does."""
    subscription: str | None = None
    """The subscription whose workers are held back."""

    def sentence(self) -> str:
        """Who it is, what it holds back, and what ends that; on one line, clean for a terminal or a log."""
        return f"{self._who()} {self._what()}: {self._remedy()}"

    def _who(self) -> str:
        since = f" since {_moment(self.since)}" if self.since else ""
        if self.prepared is not None:
            return f"the transaction {self.prepared!r} (role {self.role!r}), prepared{since},"
        if self.pid is None:
            return f"a transaction of this process, open{since},"
        # repr() escapes what a terminal or a log would obey.
        names = ", ".join(f"{what} {name!r}" for what, name in self._names().items() if name)
        state = f"{self.state}{since}" if self.state else "whose state only members of pg_read_all_stats may see"
        return f"session {self.pid}{names and f' ({names})'}, {state},"

    def _names(self) -> dict[str, str | None]:
        return {"role": self.role, "application": self.application}

    def _what(self) -> str:
        waiting = f"{self.waiting} session(s) wait for it"
        if self.waiting_since is not None:
            waiting += f", the first since {_moment(self.waiting_since)}"
        if self.holds == "readers":
            return f"holds readers of the log back at position {self.position}"
        if self.holds == "subscription":
            return (
                f"has locked the checkpoint of subscription {self.subscription!r} at position {self.position}, "
                "so no worker of it can continue"
            )
        if self.holds == "table":
            return f"has locked the table of events; {waiting}"
        return f"holds a lock that appends need; {waiting}"

    def _remedy(self) -> str:
        if self.prepared is not None:
            return "commit it, or roll it back (ROLLBACK PREPARED)"
        if self.pid is None:
            return "commit it, or roll it back"
        return f"end its transaction, or the session: SELECT pg_terminate_backend({self.pid})"


def _moment(moment: datetime) -> str:
    return moment.isoformat(" ", "seconds")
