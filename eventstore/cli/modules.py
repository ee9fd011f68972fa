"""Modules of the application: installed ones come first, then those in the working directory."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType

from eventstore.errors import InvalidArgument


def look_here_as_well() -> str:
    """Let modules be imported from the working directory, and return it."""
    here = os.getcwd()  # noqa: PTH109 a text for the path
    if here not in sys.path:
        sys.path.append(here)  # Last, so that no file that happens to be here stands in for an installed module.
    return here


def module_named(name: str, prefix: str = "") -> ModuleType:
    """Import a module. Raises InvalidArgument, whose text has a prefix, if it is nowhere."""
    here = look_here_as_well()
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # A module that this one imports.
        raise InvalidArgument(f"{prefix}there is no module {error.name!r} in {here}, or installed") from None


def object_named(target: str, what: str) -> object:
    """What ``package.module:name`` names; None if the module has nothing of that name.

    ``what`` it is expected to be is said in the error.
    """
    module_name, colon, name = target.partition(":")
    if not (colon and module_name and name):
        raise InvalidArgument(f"{target!r}: name {what} as package.module:name")
    found: object = module_named(module_name, f"{target!r}: ")
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
