"""Modules of the application: installed ones come first, then those in the working directory."""

from __future__ import annotations

import os
import sys


def look_here_as_well() -> str:
    """Let modules be imported from the working directory, and return it."""
    here = os.getcwd()  # noqa: PTH109 a text for the path
    if here not in sys.path:
        sys.path.append(here)  # Last, so that no file that happens to be here stands in for an installed module.
    return here
