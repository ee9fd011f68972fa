"""Where the SQL files are: inside the installed package, or at the top of a checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def sql_directory() -> Traversable:
    """The directory of the SQL files, readable also where the package is imported from a zip file.

    An installed package has them in ``eventstore/sql``. A checkout that is imported without being installed has them
    beside the package.
    """
    packaged = files("eventstore") / "sql"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "sql"
