"""A libpq for psycopg in pure Python where the system has none: the one that psycopg's binary wheel carries.

Imported before psycopg, for ``PSYCOPG_IMPL=python`` looks for the library when psycopg is imported. Linux only, where
the tests run without an installed libpq.
"""

from __future__ import annotations

import ctypes.util
import os
from importlib.util import find_spec
from pathlib import Path

_find_library = ctypes.util.find_library


def _find_library_or_libpq(name: str) -> str | None:
    found = _find_library(name)
    if found is None and name == "pq":
        wheel = find_spec("psycopg_binary")  # finds the package without importing it
        if wheel is not None and wheel.origin is not None:
            libraries = Path(wheel.origin).parent.with_name("psycopg_binary.libs").glob("libpq-*.so*")
            found = next(map(str, libraries), None)
    return found


if os.environ.get("PSYCOPG_IMPL") == "python":
    ctypes.util.find_library = _find_library_or_libpq
