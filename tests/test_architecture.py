"""A module imports only from floors below its own: the listing shows the architecture."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import eventstore

ROOT = Path(eventstore.__file__).parent

FLOORS = [
    ["errors", "_sql", "wakeups", "checkpoints", "values"],
    ["names", "codec.scan"],
    ["event", "types", "codec.format"],
    ["codec.encoding", "codec.decoding", "store", "aggregate"],
    ["codec"],
    ["records", "async_store"],
    ["operations"],
    ["blocking", "asynchronous", "repository_operations", "memory.checkpoints"],
    ["memory.engine"],
    ["repository", "async_repository", "memory.stores", "memory.async_stores"],
    ["memory"],
    ["postgres.arrays", "postgres._binaries", "postgres._supervisor"],
    ["postgres.statements", "postgres.embedded"],
    ["postgres.failures", "postgres.transactions", "postgres.notifications"],
    ["postgres.connections", "postgres.migrations"],
    ["postgres.async_connections"],
    ["postgres.stores", "postgres.async_stores"],
    ["postgres"],
    [""],
    ["subscriptions.following", "subscriptions.managing"],
    ["subscriptions.rebuilding"],
    ["subscriptions.blocking", "subscriptions.asynchronous"],
    ["subscriptions.inline"],
    ["subscriptions"],
    ["testing", "cli"],
    ["__main__", "contrib", "contrib.borrowed", "contrib.commands"],
    ["contrib.sqlalchemy", "contrib.flask"],
    ["contrib.django.conf"],
    ["contrib.django.stores"],
    ["contrib.django.workers", "contrib.django.files", "contrib.django.checks", "contrib.django.models"],
    ["contrib.django"],
    [
        "contrib.django.apps",
        "contrib.django.admin",
        "contrib.django.test",
        "contrib.django.management",
        "contrib.django.migrations",
    ],
]
PACKAGES = {"testing", "cli", "contrib.django.management", "contrib.django.migrations"}
"""Whose modules stand on one floor."""


def floor_of(module: str) -> int:
    """The floor of a module, or of the package that it is in."""
    for number, modules in enumerate(FLOORS):
        if module in modules or any(name in PACKAGES and module.startswith(f"{name}.") for name in modules):
            return number
    raise AssertionError(f"eventstore.{module} stands on no floor: give it one in {Path(__file__).name}")


def modules() -> list[str]:
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.rglob("*.py"))
    return sorted(name.removesuffix("__init__").removesuffix(".") for name in names)


def imported(module: str) -> set[str]:
    """The modules of the package that one imports when it is imported."""
    path = ROOT.joinpath(*module.split(".")) if module else ROOT
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "eventstore":
            base = node.module.removeprefix("eventstore").removeprefix(".")
            names = {f"{base}.{alias.name}".removeprefix(".") for alias in node.names}
            found |= {name if name in MODULES else base for name in names}
        elif isinstance(node, ast.Import):
            names = {alias.name for alias in node.names if alias.name.split(".")[0] == "eventstore"}
            found |= {name.removeprefix("eventstore").removeprefix(".") for name in names}
    return found


MODULES = modules()


@pytest.mark.parametrize("module", MODULES)
def test_it_imports_only_from_floors_below_its_own(module: str) -> None:
    own = floor_of(module)
    same_package = module.partition(".")[0] in {"testing", "cli"}
    for other in imported(module):
        if same_package and other.partition(".")[0] == module.partition(".")[0]:
            continue
        assert floor_of(other) < own, f"eventstore.{module} imports eventstore.{other}"


@pytest.mark.parametrize("module", [module for module in MODULES if not module.startswith("contrib.")])
def test_it_needs_no_framework(module: str) -> None:
    path = ROOT.joinpath(*module.split(".")) if module else ROOT
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    for name in ("django", "flask", "sqlalchemy"):
        assert f"import {name}" not in text
        assert f"from {name}" not in text


PURE = ["event", "codec.encoding", "codec.decoding", "aggregate", "records", "operations", "repository_operations"]
PURE += ["subscriptions.following", "subscriptions.managing", "subscriptions.rebuilding", "memory.checkpoints"]


@pytest.mark.parametrize("module", [*PURE, "memory.engine"])
def test_what_decides_does_no_io(module: str) -> None:
    text = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text()
    for name in ("psycopg", "socket", "asyncio", "async def", "await "):
        assert name not in text, f"eventstore.{module} must stay pure, but speaks of {name}"
