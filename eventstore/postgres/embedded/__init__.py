"""A real PostgreSQL for the demo and the tests, started by this process and gone with it."""

from __future__ import annotations

from eventstore.postgres.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer"]
