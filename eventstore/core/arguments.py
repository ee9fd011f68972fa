"""Checks of arguments that type checkers refuse as well, for callers who have none."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from eventstore.errors import InvalidArgument


def check_instance(what: str, value: object, kind: type[Any]) -> None:
    """Raise InvalidArgument for another kind of store, such as an async one in a blocking class."""
    if not isinstance(value, kind):
        raise InvalidArgument(f"{what} must be a subclass of {kind.__name__}, not {_name_of(value)}")


def check_blocking(what: str, function: Callable[..., Any], *, instead: str) -> None:
    """Raise InvalidArgument unless ``function`` can be called without awaiting what it returns."""
    if not callable(function):
        raise InvalidArgument(f"{what} must be a function, not {_name_of(function)}")
    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        raise InvalidArgument(
            f"{what} must be a plain function: nobody would await the coroutine function {_name_of(function)}; "
            f"use {instead}, or make it a def without async"
        )


def _name_of(value: object) -> str:
    return getattr(value, "__qualname__", type(value).__qualname__)
