"""Programs that change: each release of a module takes the place of the one before, with registries of its own."""

from __future__ import annotations

import sys
import types
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from eventstore import event_types
from eventstore.codec import registry

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = """
import enum
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Optional
from uuid import UUID

from eventstore import Aggregate, Event, register_type, upcasts
"""


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Deploy a module called ``shopevents`` with this source; what the release before defined is gone."""

    def deploy(source: str) -> Any:
        for table, name in [(event_types, "_event_classes"), (registry, "_classes"), (registry, "_names")]:
            monkeypatch.setattr(table, name, {})
        monkeypatch.setattr(event_types, "_ignored", set())
        module = types.ModuleType("shopevents")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(HEAD + dedent(source), "shopevents.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102
        return module

    return deploy
