"""Pages to look through a store with a browser: ``Explorer(store, allowed=...)``. Nothing can be changed there."""

from __future__ import annotations

from eventstore.explorer.app import Explorer

__all__ = ["Explorer"]
