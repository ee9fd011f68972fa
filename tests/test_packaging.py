"""What is built and installed is whole, and does not lean on the checkout."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_string
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import eventstore

if TYPE_CHECKING:
    from email.message import Message

CHECKOUT = Path(__file__).parent.parent
PACKAGE = {path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "eventstore").rglob("*.py")}
PAGES = {
    path.relative_to(CHECKOUT).as_posix()
    for pattern in ("templates/**/*.html", "static/**/*.css", "static/**/*.js")
    for path in (CHECKOUT / "eventstore").rglob(pattern)
}
SQL = {path.relative_to(CHECKOUT).as_posix(): path.read_text() for path in (CHECKOUT / "sql").rglob("*.sql")}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


def build(kind: str, source: Path, into: Path) -> Path:
    """Build by the hook that every installer calls, with the setuptools at hand, so that nothing is downloaded."""
    hook = f"from setuptools import build_meta; build_meta.build_{kind}({str(into)!r})"
    run(sys.executable, "-c", hook, cwd=source)
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, for building writes beside its source, and leftovers there would be built as well."""
    copy = tmp_path_factory.mktemp("source") / "eventstore"
    leftovers = [".*_cache", ".git", ".hypothesis", ".tox", ".venv", "*.egg-info", "build", "dist"]
    return shutil.copytree(CHECKOUT, copy, ignore=shutil.ignore_patterns(*leftovers))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel. Its dependencies are lent by the present environment."""
    environment = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    programs = environment / "bin"
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=environment)
    find_its_packages = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(programs / "python", "-c", find_its_packages, cwd=environment).strip())
    # a path file puts what it names behind the environment's own packages
    (packages / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return programs


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == PACKAGE | PAGES | {f"eventstore/{name}" for name in SQL} | {"eventstore/py.typed"}


def test_sdist_holds_what_its_tests_need(source: Path, sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tests = {path.relative_to(source).as_posix() for path in (source / "tests").rglob("*.py")}
    files = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "setup.cfg", "setup.py", "tox.ini"}
    assert "tests/conftest.py" in tests
    assert (PACKAGE | PAGES | SQL.keys() | tests | files) - names == set()


def test_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    (tmp_path / "wheel").mkdir()
    again = build("wheel", unpacked, tmp_path / "wheel")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_installed_package_is_whole_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    modules = sorted(name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in PACKAGE)
    (tmp_path / "look.py").write_text(
        """
import importlib, json, sys
from importlib.resources import files
import django, eventstore
from django.conf import settings
from eventstore.postgres._sql import sql_directory

def texts(directory, prefix):
    for entry in directory.iterdir():
        name = prefix + entry.name
        yield from [(name, entry.read_text())] if entry.is_file() else texts(entry, name + "/")

apps = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.admin", "eventstore.contrib.django"]
settings.configure(INSTALLED_APPS=apps)
django.setup()
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
typed = (files(eventstore) / "py.typed").is_file()
print(json.dumps([eventstore.__file__, typed, dict(texts(sql_directory(), "sql/"))]))
"""
    )
    # -I: neither this directory nor PYTHONPATH is searched; -W error: nor does importing warn
    look = run(installed / "python", "-I", "-W", "error", "look.py", json.dumps(modules), cwd=tmp_path)
    imported_from, typed, sql = json.loads(look)
    assert Path(imported_from).is_relative_to(installed.parent)
    assert typed
    assert sql == SQL


def test_the_installed_command_starts(installed: Path, tmp_path: Path) -> None:
    assert "migrate" in run(installed / "eventstore", "--help", cwd=tmp_path)


def described(source: Path, into: Path) -> Message:
    """What a package index would be told, with the repository's address from the environment."""
    hook = f"from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel({str(into)!r})"
    run(sys.executable, "-c", hook, cwd=source)
    (found,) = into.glob("*.dist-info/METADATA")
    return message_from_string(found.read_text())


def links(markdown: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", markdown)


def test_without_a_known_repository_no_address_is_made_up(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVENTSTORE_REPOSITORY", raising=False)
    metadata = described(source, tmp_path)
    assert (metadata["Name"], metadata["Version"]) == ("pg-eventstore", eventstore.__version__)
    assert metadata.get_all("Project-URL") is None
    assert metadata.get_payload() == (source / "README.md").read_text()


def test_with_a_known_repository_every_link_of_the_readme_leads_there(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTSTORE_REPOSITORY", "https://host.invalid/owner/name")
    metadata = described(source, tmp_path)
    readme = (source / "README.md").read_text()
    expected = [f"https://host.invalid/owner/name/blob/HEAD/{target}" for target in links(readme)]
    assert all((source / target).exists() for target in links(readme))
    assert links(str(metadata.get_payload())) == expected
    assert "Source, https://host.invalid/owner/name" in (metadata.get_all("Project-URL") or [])


def test_every_public_name_is_shown_by_dir_and_can_be_imported() -> None:
    assert set(eventstore.__all__) <= set(dir(eventstore))
    assert all(hasattr(eventstore, name) for name in eventstore.__all__)
    assert eventstore._LAZY.keys() <= set(eventstore.__all__)


def test_the_tests_run_on_the_installed_package() -> None:
    """No checkout on the path hides an installed wheel: otherwise tox would test the checkout."""
    packages = sysconfig.get_path("purelib")  # only there: a checkout holds metadata of its own, left by building
    (found,) = distributions(name="pg-eventstore", path=[packages])
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    editable = origin.get("dir_info", {}).get("editable", False)
    assert Path(eventstore.__file__).parent == (CHECKOUT if editable else Path(packages)) / "eventstore"
