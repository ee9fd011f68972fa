"""Checked by mypy and pyright, never run: a reply of another type than the request promises is an error.

An ignored line that is right would be an error of mypy's.
"""

from __future__ import annotations

from eventstore.core.checkpoints import Claimed, Poll
from eventstore.core.requests import Operation, ask
from eventstore.core.subscription_requests import Claim, Heartbeat
from eventstore.postgres.statements.statement import one, optional, statement


def in_an_operation() -> Operation[None]:
    right: Claimed | None = yield from ask(Claim("x", 1))
    wrong: str = yield from ask(Claim("x", 1))  # type: ignore[assignment]
    del right, wrong


def note(request: Heartbeat) -> None:
    del request


def note_wrongly(request: Heartbeat) -> bool:
    return request.present


statement(Claim, "SELECT", reply=optional(Claimed))
statement(Claim, "SELECT", reply=optional(Poll))  # type: ignore[arg-type]
statement(Heartbeat, "SELECT", reply=one(Poll))  # type: ignore[misc]
Heartbeat.answered_by(note)
Heartbeat.answered_by(note_wrongly)  # type: ignore[arg-type]
Claim.answered_by(note)  # type: ignore[arg-type]
