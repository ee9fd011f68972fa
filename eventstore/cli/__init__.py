"""The command line: ``eventstore …``, also ``python -m eventstore …``."""

from __future__ import annotations

from eventstore.cli.command_line import main
from eventstore.cli.parser import DATABASE_COMMANDS

__all__ = ["DATABASE_COMMANDS", "main"]
