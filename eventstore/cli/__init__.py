"""The command line: ``eventstore …``, also ``python -m eventstore …``."""

from __future__ import annotations

from eventstore.cli.command_line import DATABASE_COMMANDS, main

__all__ = ["DATABASE_COMMANDS", "main"]
