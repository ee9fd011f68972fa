"""The lock file: which changes of a program pass, which are refused, and that it reads the same whoever writes it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from eventstore import EventsLockError, InvalidArgument
from eventstore.cli import main
from eventstore.codec import decode
from eventstore.eventlock import compared, described_program, read_lock, text_of
from eventstore.testing import assert_events_are_readable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Release = Callable[[str], Any]

SHIPPED = """
    class Shipped(Event):
        number: str
        weight: Decimal = Decimal(1)
"""
MONEY = """
    @register_type(formerly=["Amount"], members={"EURO": "EUR"})
    class Unit(enum.Enum):
        EUR = 1
        USD = 2

    class Access(enum.Flag):
        READ = 1
        WRITE = 2

    @dataclass
    class Money:
        cents: int
        unit: Unit = Unit.EUR

    class Paid(Event):
        money: Money
        access: Access
"""
REVISION_2 = """
    class Shipped(Event, revision=2):
        tracking: str

    @upcasts(Shipped, from_revision=1)
    def _(data):
        return {"tracking": data["number"]}
"""


def lock_of(source: str, release: Release, before: Any = None) -> Any:
    release(source)
    return described_program(["shopevents"], before)


def findings(lock: Any, source: str, release: Release) -> tuple[list[str], list[str]]:
    """The problems, and the notes."""
    release(source)
    found = compared(lock)
    return [str(each) for each in found if each.is_problem], [str(each) for each in found if not each.is_problem]


UNCHANGED = [SHIPPED, MONEY, REVISION_2]


@pytest.mark.parametrize("source", UNCHANGED)
def test_a_program_that_has_not_changed_passes_without_a_word(source: str, release: Release) -> None:
    assert findings(lock_of(source, release), source, release) == ([], [])


COMPATIBLE = {
    "a new field with a default": (
        SHIPPED, SHIPPED + "        note: str = ''\n", ["Shipped: the field note is new, with a default"]
    ),
    "a new field with a factory": (
        SHIPPED,
        SHIPPED + "        id: UUID = field(default_factory=uuid.uuid4)\n",
        ["Shipped: the field id is new, with a default"],
    ),
    "a new field with a factory, in a nested dataclass": (
        MONEY,
        MONEY.replace("= Unit.EUR", "= Unit.EUR\n        id: UUID = field(default_factory=uuid.uuid4)"),
        ["Money: the field id is new, with a default"],
    ),
    "a field that is gone": (
        SHIPPED,
        SHIPPED.replace("weight: Decimal = Decimal(1)", "pass"),
        ["Shipped: the field weight is gone: what is stored of it is passed over"],
    ),
    "a wider type": (
        SHIPPED,
        SHIPPED.replace("number: str", "number: str | None"),
        ["Shipped: the field number was of type str, and takes str | None"],
    ),
    "a type in other words": (SHIPPED.replace("str", "Optional[str]"), SHIPPED.replace("str", "str | None"), []),
    "another order": (
        SHIPPED,
        SHIPPED.replace("number: str\n        ", "").replace("Decimal(1)", "Decimal(1)\n        number: str"),
        [],
    ),
    "a new revision with its upcaster": (
        SHIPPED, REVISION_2, ["Shipped: it is at revision 2 now, and was at 1"]
    ),
    "another name": (
        SHIPPED,
        SHIPPED.replace("Shipped(Event)", "Sent(Event, formerly=['Shipped'])"),
        ["Shipped: it is called 'Sent' now"],
    ),
    "a new class": (SHIPPED, SHIPPED + "\n    class Other(Event): pass\n", ["Other: it is new"]),
    "a class that is gone and ignored": (
        SHIPPED + "\n    class Other(Event): pass\n",
        SHIPPED + "\n    class Order(Aggregate['Order']): ignored = ['Other']\n",
        ["Other: its class is gone, and aggregates ignore it"],
    ),
    "a new member": (
        MONEY,
        MONEY.replace("USD = 2", "USD = 2\n        GBP = 3"),
        ["Unit: its member GBP is new: programs of before can't read it, so deploy it twice"],
    ),
    "a renamed member": (MONEY, MONEY.replace('"EUR"}', '"EUR", "USD": "DOLLAR"}').replace("USD = 2", "DOLLAR = 2"), [
        "Unit: its member DOLLAR is new: programs of before can't read it, so deploy it twice"]),
    "another value of an enum's member": (MONEY, MONEY.replace("USD = 2", "USD = 3"), []),
    "a renamed dataclass": (
        MONEY,
        MONEY.replace("@dataclass", "@register_type(formerly=['Money'])\n    @dataclass").replace("Money:", "Cash:")
        .replace("money: Money", "money: Cash"),
        ["Money: it is called 'Cash' now"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "notes"), COMPATIBLE.values(), ids=COMPATIBLE)
def test_a_compatible_change_passes_and_is_reported(
    before: str, after: str, notes: list[str], release: Release
) -> None:
    assert findings(lock_of(before, release), after, release) == ([], [f"note: {note}" for note in notes])


REFUSED = {
    "a new field without a default": (
        SHIPPED,
        SHIPPED.replace("number: str", "number: str\n        to: str"),
        "the field to is new, and what is stored lacks it: give it a default, or raise the class to revision 2",
    ),
    "a renamed field": (SHIPPED, SHIPPED.replace("number: str", "no: str"), "the field no is new, and what is stored"),
    "another type": (
        SHIPPED,
        SHIPPED.replace("number: str", "number: int"),
        "the field number was of type str, and is of type int: raise the class to revision 2, with an upcaster",
    ),
    "a narrower type": (
        SHIPPED.replace("number: str", "number: str | None"),
        SHIPPED,
        "was of type str | None, and is of type str",
    ),
    "a default that is gone": (
        SHIPPED,
        SHIPPED.replace(" = Decimal(1)", ""),
        "the field weight has no default any more, and may not be stored",
    ),
    "a class that is gone": (SHIPPED + "\n    class Other(Event): pass\n", SHIPPED, "Other: no class has this name"),
    "a class of another name": (
        SHIPPED,
        SHIPPED.replace("Shipped", "Sent"),
        r"let the one that takes its place say formerly=\['Shipped'\], or name the type in an aggregate's `ignored`",
    ),
    "a former name that is gone": (
        SHIPPED.replace("(Event)", "(Event, formerly=['Old'])"),
        SHIPPED,
        "its former name 'Old' is gone",
    ),
    "a revision without an upcaster": (
        SHIPPED,
        REVISION_2.split("@upcasts", maxsplit=1)[0],
        "shopevents.Shipped: there is no upcaster from revision 1 to 2",
    ),
    "a revision that is taken back": (REVISION_2, SHIPPED, "it was at revision 2, and is at 1"),
    "an upcaster that misses a field": (
        SHIPPED,
        REVISION_2.replace('"tracking":', '"other":'),
        "a sample of revision 1 can't be read: Shipped can't be read: it was stored without the field 'tracking'",
    ),
    "a member that is gone": (
        MONEY, MONEY.replace("USD = 2", ""), "Unit: its member USD is gone, and may be stored: keep it, or say"
    ),
    "a former member that is gone": (
        MONEY, MONEY.replace('members={"EURO": "EUR"}', "members={}"), "its former member 'EURO' is gone"
    ),
    "another value of a flag": (MONEY, MONEY.replace("WRITE = 2", "WRITE = 4"), "the value of WRITE was 2 and is 4"),
    "a flag that is gone": (MONEY, MONEY.replace("WRITE = 2", ""), "its flag WRITE is gone, and its value 2"),
    "a nested field": (MONEY, MONEY.replace("cents: int", "euros: int"), "Money: the field euros is new"),
    "another kind": (
        MONEY.replace("(enum.Flag)", "(enum.Enum)"), MONEY, "it was of kind enum, and is of kind flag"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "message"), REFUSED.values(), ids=REFUSED)
def test_a_change_that_stored_bytes_do_not_survive_is_refused(
    before: str, after: str, message: str, release: Release
) -> None:
    problems, _ = findings(lock_of(before, release), after, release)
    assert any(re.search(message, problem) for problem in problems), problems


def test_an_upcaster_that_was_released_can_t_be_changed(release: Release) -> None:
    lock = lock_of(REVISION_2, release, lock_of(SHIPPED, release))
    assert findings(lock, REVISION_2, release) == ([], [])
    changed = REVISION_2.replace('data["number"]', 'data["number"].upper()')
    problems, _ = findings(lock, changed, release)
    (problem,) = problems
    assert "a sample of revision 1 reads differently: {'tracking': 'TEXT'}, and was {'tracking': 'text'}" in problem
    assert problem.endswith("must stay: change it back, and raise the revision instead")


REVISION_3 = """
    class Shipped(Event, revision=3):
        tracking: str
        carrier: str

    @upcasts(Shipped, from_revision=1)
    def _(data):
        return {"tracking": data["number"]}

    @upcasts(Shipped, from_revision=2)
    def _(data):
        return data | {"carrier": "unknown"}
"""


def test_each_revision_s_sample_goes_through_every_later_upcaster(release: Release) -> None:
    lock = lock_of(REVISION_2, release, lock_of(SHIPPED, release))
    assert findings(lock, REVISION_3, release) == ([], ["note: Shipped: it is at revision 3 now, and was at 2"])
    lock = lock_of(REVISION_3, release, lock)
    assert sorted(lock.types[True, "Shipped"].samples) == [1, 2, 3]
    problems, _ = findings(lock, REVISION_3.replace('"unknown"', '"DHL"'), release)
    assert len(problems) == 2


def test_bytes_of_before_a_compatible_change_stay_among_the_samples(release: Release) -> None:
    lock = lock_of(SHIPPED, release)
    wider = SHIPPED + "        note: str = ''\n"
    lock = lock_of(wider, release, lock)
    assert [sorted(decode(sample)) for sample in lock.types[True, "Shipped"].samples[1]] == [
        ["number", "weight"],
        ["note", "number", "weight"],
    ]
    assert lock_of(wider, release, lock) == lock


def test_an_instance_in_the_module_is_the_sample(release: Release) -> None:
    source = SHIPPED + '\n    EXAMPLE = Shipped(number="1Z", weight=Decimal(2))\n'
    (sample,) = lock_of(source, release).types[True, "Shipped"].samples[1]
    assert decode(sample)["number"] == "1Z"


EVERYTHING = """
    type_ = Any

    class Level(enum.Enum):
        LOW = 1

    @dataclass
    class Part:
        name: str
        below: "Optional[Part]" = None
        others: "list[Part]" = field(default_factory=list)

    class Everything(Event):
        a: int
        b: float
        c: bool
        d: bytes
        e: UUID
        f: datetime
        g: Decimal | None
        h: list[Part]
        i: dict[str, list[int]]
        j: tuple[int, ...]
        k: tuple[str, int]
        l: set[str]
        m: frozenset[int]
        n: Level
        o: Literal["x", "y"]
        p: Any
        q: "Undefined"
        r: list
        s: dict
        t: Part
"""


def test_a_sample_is_made_for_every_kind_of_annotation(release: Release) -> None:
    lock = lock_of(EVERYTHING, release)
    ((sample,),) = lock.types[True, "Everything"].samples.values()
    found = decode(sample)
    assert (found["a"], found["o"], found["j"], found["k"], found["m"]) == (1, "x", (1,), ("text", 1), frozenset({1}))
    assert found["i"] == {"text": [1]}
    assert found["h"][0].name == found["t"].name == "text"
    assert compared(lock) == []


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [*UNCHANGED, REVISION_3, EVERYTHING])
def test_a_lock_comes_back_from_its_text_as_it_was(source: str, release: Release, tmp_path: Path) -> None:
    lock = lock_of(source, release)
    path = tmp_path / "events.lock"
    path.write_text(text_of(lock), "utf-8")
    assert read_lock(path) == lock
    assert text_of(read_lock(path)) == text_of(lock) == text_of(lock_of(source, release))


def test_the_text_is_for_people(release: Release) -> None:
    text = text_of(lock_of(SHIPPED.replace("(Event)", "(Event, formerly=['Old Name', 'x\"\\x7f'])"), release))
    assert text.splitlines()[3:] == [
        "format = 1",
        'modules = ["shopevents"]',
        "",
        "[events.Shipped]",
        'class = "shopevents.Shipped"',
        'kind = "event"',
        "revision = 1",
        'formerly = ["Old Name", "x\\"\\u007f"]',
        'fields.number = "str"',
        'fields.weight = "Decimal"',
        'optional = ["weight"]',
        'samples.1 = ["82 a6 6e 75 6d 62 65 72 a4 74 65 78 74 a6 77 65 69 67 68 74 d6 02 31 2e 35 30"]',
    ]


DAMAGED = {
    "no TOML": ("format = ", "damaged"),
    "nothing": ("", "it has no format"),
    "no format": ("modules = []", "it has no format"),
    "a format that is none": ("format = 'x'\nmodules = []", "it has no format"),
    "a newer format": ("format = 2\nmodules = []", "a newer release wrote it"),
    "no modules": ("format = 1", "it lacks 'modules'"),
    "modules that are none": ("format = 1\nmodules = 'shop'", "modules must be of type list"),
    "a type that is none": ("format = 1\nmodules = []\n[events]\nA = 1", "A must be of type dict"),
    "no kind": ("format = 1\nmodules = []\n[events.A]\nrevision = 1", "it lacks 'kind'"),
    "another kind": ("format = 1\nmodules = []\n[events.A]\nkind = 'x'", "the kind 'x' is not known"),
    "a sample that is none": (
        "format = 1\nmodules = []\n[events.A]\nkind = 'event'\nclass = 'x'\nrevision = 1\nsamples.1 = ['zz']",
        "damaged",
    ),
    "a revision that is none": (
        "format = 1\nmodules = []\n[events.A]\nkind = 'event'\nclass = 'x'\nrevision = true",
        "revision must be of type int",
    ),
}


@pytest.mark.parametrize(("text", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_file_that_is_damaged_or_newer_is_a_typed_error(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "events.lock"
    path.write_text(text)
    with pytest.raises(EventsLockError, match=message) as caught:
        read_lock(path)
    assert caught.value.subject == str(path)


def test_a_file_that_can_t_be_read_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(EventsLockError, match="there is no such file"):
        read_lock(tmp_path / "missing")
    with pytest.raises(EventsLockError, match="can't be read"):
        read_lock(tmp_path)
    (tmp_path / "latin").write_bytes(b"format = '\xff'")
    with pytest.raises(EventsLockError, match="damaged"):
        read_lock(tmp_path / "latin")


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "events.lock"


def test_lock_and_check_from_the_command_line(path: Path, release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    release(SHIPPED)
    assert main(["events", "lock", "shopevents"]) == 0
    assert capsys.readouterr().out == "events.lock: 1 types with 1 samples\n"
    assert main(["events", "check"]) == 0
    assert capsys.readouterr().out == "events.lock: 1 types, as it was locked\n"
    written = path.read_text()
    release(SHIPPED + "        note: str = ''\n")
    assert main(["events", "check"]) == 0
    assert capsys.readouterr().out == (
        "note: Shipped: the field note is new, with a default\n"
        "events.lock: 1 types, stored events survive; `eventstore events lock` writes it down\n"
    )
    release(SHIPPED.replace("number", "no"))
    assert main(["events", "check"]) == 1
    out, err = capsys.readouterr()
    assert "error: Shipped: the field no is new" in out
    assert err == "eventstore: 1 change(s) that stored events do not survive\n"
    assert main(["events", "lock"]) == 1
    assert "was not written" in capsys.readouterr().err
    assert path.read_text() == written
    assert main(["events", "lock", "--force"]) == 0
    assert 'fields.no = "str"' in path.read_text()


def test_lock_of_nothing_is_refused(path: Path, release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    release("")
    for arguments, message in [
        (["lock"], "name the modules"),
        (["lock", "nowhere.events"], "there is no module 'nowhere'"),
        (["lock", "shopevents"], "defines no class of events"),
        (["check"], "there is no such file"),
    ]:
        assert main(["events", *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not path.exists()
    path.write_text("format = ")
    assert main(["events", "lock", "shopevents"]) == 1
    assert path.read_text() == "format = "


@pytest.mark.usefixtures("path")
def test_an_old_sample_that_an_upcaster_can_t_take_says_what_to_do(
    release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    release(SHIPPED)
    assert main(["events", "lock", "shopevents"]) == 0
    release(REVISION_2.replace('data["number"]', 'str(int(data["number"]))'))
    assert main(["events", "lock", "--force"]) == 1
    assert "put an instance with real values into the module" in capsys.readouterr().err


def test_a_test_suite_can_check_the_lock(path: Path, release: Release) -> None:
    release(SHIPPED)
    path.write_text(text_of(described_program(["shopevents"])))
    assert_events_are_readable()
    release(SHIPPED.replace("number", "no"))
    with pytest.raises(AssertionError, match="error: Shipped: the field no is new"):
        assert_events_are_readable(path, ["shopevents"])
    with pytest.raises(InvalidArgument, match="there is no module"):
        assert_events_are_readable(modules=["nowhere"])
