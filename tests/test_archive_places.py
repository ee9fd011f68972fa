"""Archives in object storage: what fsspec keeps in memory, and a server that speaks S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from archiving import rows_of

from eventstore import ArchiveError, InvalidArgument
from eventstore.archives import places
from eventstore.archives.places import Bucket, Directory, Place, place_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from archiving import Run

ARCHIVE = ("archive", "--category", "Cart", "--retired-for", "0d", "--to")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket on a server of this process."""
    server: Any = pytest.importorskip("moto.server", reason="needs `pip install 'moto[server]'`")
    pytest.importorskip("s3fs", reason="needs `pip install s3fs`")
    boto3: Any = pytest.importorskip("boto3", reason="needs `pip install 'moto[server]'`")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        running.start()
        host, port = running.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="archives")
        yield "s3://archives"
        running.stop()


@pytest.fixture(params=["directory", "memory", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "directory":
        return str(tmp_path / "archive")
    if request.param == "memory":
        pytest.importorskip("fsspec", reason="needs `pip install fsspec`")
        return f"memory://{uuid4()}"
    return f"{request.getfixturevalue('s3')}/{uuid4()}/carts"


@pytest.fixture
def place(address: str) -> Place:
    return place_at(address)


def test_a_place_keeps_files_by_their_names(place: Place) -> None:
    assert place.names() == []
    place.write("a", b"one")
    place.write("a", b"two")
    place.write("b", b"")
    assert sorted(place.names()) == ["a", "b"]
    assert place.read("a") == b"two"
    place.remove(["a"])
    assert place.names() == ["b"]
    with pytest.raises(ArchiveError, match="a can't be read"):
        place.read("a")


def test_a_file_is_created_once(place: Place) -> None:
    assert place.create("a", b"one")
    assert not place.create("a", b"two")
    assert place.read("a") == b"one"
    assert place.names() == ["a"]


@pytest.mark.usefixtures("small_parts", "carts")
def test_an_archive_goes_there_and_back(run: Run, dsn: str, schema: str, address: str) -> None:
    before = rows_of(dsn, schema)
    code, out, err = run(*ARCHIVE, address)
    assert (code, err) == (0, "")
    assert out.startswith(f"{address}: 5 stream(s), 20 events in 5 part(s)")
    assert len(rows_of(dsn, schema)) == len(before) - 15
    assert run(*ARCHIVE, address)[0] == 0
    assert run("restore", address)[0] == 0
    assert rows_of(dsn, schema) == before


@pytest.mark.usefixtures("small_parts", "carts")
def test_object_storage_that_fails_loses_nothing(
    run: Run, dsn: str, schema: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows_of(dsn, schema)
    kind = type(place_at(address))
    for name in ("write", "create", "read", "names"):
        work, calls = getattr(kind, name), list[str]()

        def failing(self: Any, *arguments: Any, work: Any = work, calls: list[str] = calls, name: str = name) -> Any:
            calls.append(name)
            if len(calls) == (1 if name in {"create", "names"} else 2):
                raise ArchiveError(self.name, "gone for a moment")
            return work(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(kind, name, failing)
            code, out, err = run(*ARCHIVE, address)
            assert (code, out, err) == (1, "", f"eventstore: archive {address}: gone for a moment\n")
    assert run(*ARCHIVE, address)[0] == 0
    assert run("restore", address)[0] == 0
    assert rows_of(dsn, schema) == before


def test_without_fsspec_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(places, "import_module", missing)
    with pytest.raises(InvalidArgument, match=r"for s3://a/b you need `pip install pg-eventstore\[archive\]`"):
        place_at("s3://a/b")


def test_an_address_that_fsspec_does_not_know_is_an_error(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="needs `pip install fsspec`")
    code, _, err = run("restore", "nowhere://a/b")
    assert code == 1
    assert err.startswith("eventstore: archive nowhere://a/b: it can't be opened: ")
    assert run("restore", " ")[0] == 1
    assert run("restore", tmp_path / "none")[2] == (
        f"eventstore: archive {tmp_path / 'none'}: there is no archive: it has no manifest.json\n"
    )


def test_an_address_is_shown_without_its_password() -> None:
    pytest.importorskip("fsspec", reason="needs `pip install fsspec`")
    assert Bucket("memory://ann:secret@host/path").name == "memory://ann@host/path"


@pytest.mark.parametrize("where", ["C:/archives", "archives", "file:///backup/archives", "local://archives"])
def test_a_directory_is_written_to_by_the_library_itself(where: str) -> None:
    place = place_at(where)
    assert isinstance(place, Directory)
    assert place.name.endswith("/archives")
