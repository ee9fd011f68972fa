"""What is decided, without I/O, and the two drivers that carry it out. Not for users."""

from __future__ import annotations
