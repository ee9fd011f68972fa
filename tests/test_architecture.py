"""A module imports only from floors below its own: the listing shows the architecture."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import eventstore

ROOT = Path(eventstore.__file__).parent
CHECKOUT = Path(__file__).parents[1]

FLOORS = [
    ["errors"],
    ["names", "signals", "versions"],
    ["codec"],
    ["event_types"],
    ["event"],
    ["context", "observing", "tombstone"],
    ["aggregate", "store"],
    ["core"],
    ["archives"],
    ["memory", "postgres", "repository", "async_repository", "log_cursor", "storage", "subscriptions", "eventlock"],
    ["eventstore", "privacy"],
    ["health", "tracing"],
    ["cli", "testing"],
    ["contrib", "explorer", "__main__"],
]
"""From the ground up: what users import stands at the top of the package, what decides in ``core``. ``eventstore`` is
the package's own ``__init__``."""


def room_of(module: str) -> str:
    """The module or package at the top level that a module belongs to."""
    return module.partition(".")[0] or "eventstore"


def floor_of(module: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room_of(module) in rooms:
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
def test_a_module_imports_only_from_floors_below_its_own_or_from_its_own_room(module: str) -> None:
    for other in imported(module):
        same_room = room_of(other) == room_of(module)
        assert same_room or floor_of(other) < floor_of(module), f"eventstore.{module} imports eventstore.{other}"


def test_contributing_lists_the_floors_as_they_are() -> None:
    listed = re.findall(r"^\d+\. (`.+)$", (CHECKOUT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert listed == [", ".join(f"`{room}`" for room in rooms) for rooms in FLOORS]


def test_no_two_modules_import_each_other() -> None:
    graph = {module: imported(module) - {module} for module in MODULES}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) not in {"contrib", "explorer"}])
def test_no_module_outside_of_contrib_imports_a_framework(module: str) -> None:
    path = ROOT.joinpath(*module.split(".")) if module else ROOT
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    for name in ("django", "flask", "sqlalchemy"):
        assert f"import {name}" not in text
        assert f"from {name}" not in text


PURE = ["event", "context", "observing", "codec.encoding", "codec.decoding", "aggregate"]
PURE += ["core.records", "core.operations", "core.repositories", "core.loading", "core.cache", "core.checkpoints"]
PURE += [
    "core.personal_data",
    "core.forgetting",
    "core.sealed_snapshots",
    "core.wrapping",
    "codec.personal",
    "codec.sealing",
]
PURE += ["core.requests", "core.subscription_requests", "core.refusals", "archives.manifest"]
PURE += [
    "subscriptions.following",
    "subscriptions.handling",
    "subscriptions.retrying",
    "subscriptions.watching",
    "subscriptions.managing",
    "subscriptions.rebuilding",
    "subscriptions.options",
]
PURE += ["memory.checkpoints"]


@pytest.mark.parametrize("module", [*PURE, "memory.engine"])
def test_what_decides_does_no_io(module: str) -> None:
    text = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text()
    for name in ("psycopg", "socket", "asyncio", "async def", "await "):
        assert name not in text, f"eventstore.{module} must stay pure, but speaks of {name}"
