"""A fault campaign: what the PostgreSQL store promises, held against a server and clients that keep breaking.

``python -m eventstore.testing.campaign --help``; docs/reliability.md says what it shows. POSIX only: it stops and kills
processes.
"""

from __future__ import annotations
