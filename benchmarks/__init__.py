"""How fast, beside what else one could use: ``tox -e bench`` prints the tables of docs/performance.md."""

from __future__ import annotations
