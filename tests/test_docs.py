"""What the documentation says is so."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import eventstore
import eventstore.context
import eventstore.explorer
import eventstore.health
import eventstore.postgres
import eventstore.privacy
import eventstore.storage
import eventstore.subscriptions
import eventstore.testing
import eventstore.tracing
from eventstore import EventStoreError
from eventstore import event_types as events_module

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("**/[!_]*.md"))]

DOCUMENTED = [
    eventstore,
    eventstore.context,
    eventstore.explorer,
    eventstore.health,
    eventstore.postgres,
    eventstore.privacy,
    eventstore.storage,
    eventstore.subscriptions,
    eventstore.testing,
    eventstore.tracing,
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_first_example_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_event_classes", {})
    exec(compile(blocks(ROOT / "README.md", "python")[0], "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102


def test_the_benchmarks_can_be_started() -> None:
    shown = subprocess.run([sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, check=True)
    assert b"python -m benchmarks" in shown.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_on_each_page_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_each_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_guide_lists_every_error() -> None:
    text = (ROOT / "docs" / "guide.md").read_text()
    errors = [n for n in eventstore.__all__ if isinstance(getattr(eventstore, n), type)]
    errors = [n for n in errors if issubclass(getattr(eventstore, n), EventStoreError)]
    assert [name for name in errors if f"`{name}`" not in text] == []


@pytest.mark.parametrize("module", DOCUMENTED, ids=lambda module: module.__name__)
def test_the_reference_documents_every_public_name(module: ModuleType) -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.rst"))
    documented = {name.rpartition(".")[2] for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)", text, re.MULTILINE)}
    assert set(module.__all__) - documented == set()


@pytest.mark.parametrize("page", ["comparison.md", "security.md"])
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / page).read_text())
    assert len(named) > 10
    files = [(test, [ROOT / "tests" / file, ROOT / "eventstore/testing/contract" / file]) for file, test in named]
    missing = [test for test, paths in files if not any(f"def {test}(" in p.read_text() for p in paths if p.exists())]
    assert missing == []


def test_pre_commit_and_tox_run_the_same_ruff() -> None:
    versions = {
        version
        for file in (".pre-commit-config.yaml", "tox.ini")
        for version in re.findall(r"ruff==([\d.]+)", (ROOT / file).read_text())
    }
    assert len(versions) == 1
