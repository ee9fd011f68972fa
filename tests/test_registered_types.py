"""Types that values name: how they are registered, and what may change in them."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pytest
from round_trips import assert_comes_back, round_trip

from eventstore import (
    DeserializationError,
    DuplicateType,
    Event,
    InvalidArgument,
    SerializationError,
    register_type,
)
from eventstore.codec import decode, encode
from eventstore.codec.registry import described_fields, learn, registered_class, registered_name
from eventstore.core.records import encode_events


@register_type
class CodecPainted(enum.Enum):
    RED = "red"


@register_type
@dataclass(frozen=True)
class CodecPrice:
    amount: Any
    currency: Any


T = TypeVar("T")


class CodecStatus(enum.Enum):
    OPEN = 1


@dataclass
class CodecLine:
    status: CodecStatus
    next: CodecLine | None = None


@dataclass
class CodecBox(Generic[T]):
    content: T


class CodecLearns(Event):
    lines: dict[str, list[CodecLine]]
    box: CodecBox[int] | None = None
    unresolvable: NotImported | None = None  # type: ignore[name-defined] # noqa: F821 as of names under TYPE_CHECKING


def test_types_that_an_event_s_annotations_mention_are_registered_by_themselves() -> None:
    line = CodecLine(CodecStatus.OPEN, CodecLine(CodecStatus.OPEN))
    encode_events([CodecLearns(lines={"a": [line]}, box=CodecBox(1))])
    assert_comes_back([line, CodecBox(1)])


def test_a_type_is_stored_under_the_name_it_was_given() -> None:
    class CodecNamed(enum.Enum):
        A = 1

    assert register_type(CodecNamed, name="codec.explicit") is CodecNamed
    assert registered_name(CodecNamed) == "codec.explicit"
    assert registered_class("codec.explicit") is CodecNamed
    assert registered_class("CodecNamed") is None
    assert b"codec.explicit" in encode("test", {"a": CodecNamed.A})
    assert round_trip(CodecNamed.A) is CodecNamed.A


def test_two_types_with_one_name_are_an_error_and_a_name_of_its_own_is_the_way_out() -> None:
    def shop() -> type:
        class CodecTwice(enum.Enum):
            A = 1

        return CodecTwice

    def kitchen() -> type:
        @dataclass
        class CodecTwice:
            a: int

        return CodecTwice

    first, second = shop(), kitchen()
    register_type(first)
    with pytest.raises(DuplicateType, match=r'register_type\(cls, name="...'):
        register_type(second)
    assert registered_class("CodecTwice") is first
    register_type(second, name="codec.Twice")
    assert_comes_back([first.A, second(1)])  # type: ignore[attr-defined]


def test_a_newer_definition_takes_the_name_over_and_the_older_one_can_no_longer_be_stored() -> None:
    def define() -> type:
        @register_type
        @dataclass
        class CodecReloaded:
            a: int

        return CodecReloaded

    older, newer = define(), define()
    assert_comes_back(newer(1))
    with pytest.raises(SerializationError, match="belongs to a newer definition"):
        encode("test", {"value": older(1)})


@pytest.mark.parametrize("nonsense", [int, str, object, None, "CodecPlain", CodecPrice(1, 2), CodecPainted.RED])
def test_only_enums_and_dataclasses_can_be_registered(nonsense: Any) -> None:
    with pytest.raises(InvalidArgument, match="neither an Enum nor a dataclass"):
        register_type(nonsense)


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "a" * 256, 1])
def test_a_registered_name_must_be_a_name(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="name"):
        register_type(CodecPainted, name=name)


def test_a_dataclass_may_gain_fields_with_defaults() -> None:
    def define(*fields: Any) -> type:
        cls = dataclasses.make_dataclass("CodecEvolving", fields)
        cls.__module__, cls.__qualname__ = __name__, "CodecEvolving"
        return register_type(cls)

    older = define(("kept", int), ("dropped", int))
    packed = encode("test", {"value": older(1, 2)})
    newer = define(("kept", int), ("added", list, field(default_factory=list)), ("plain", int, 7))
    one, other = decode(packed)["value"], decode(packed)["value"]
    assert one == newer(1)
    assert type(one) is newer
    assert not hasattr(one, "dropped")
    one.added.append(1)
    assert other.added == []
    define(("kept", int), ("needed", int))
    with pytest.raises(DeserializationError, match="without the field 'needed', which has no default"):
        decode(packed)


def test_history_is_not_validated_again() -> None:
    allowed = True

    @register_type
    @dataclass
    class CodecStrict:
        amount: int

        def __post_init__(self) -> None:
            assert allowed

    packed = encode("test", {"value": CodecStrict(-1)})
    allowed = False
    assert decode(packed)["value"].amount == -1


def test_a_field_that_the_constructor_does_not_take_comes_back() -> None:
    @register_type
    @dataclass
    class CodecComputed:
        net: int
        gross: int = field(init=False)

        def __post_init__(self) -> None:
            self.gross = self.net * 2

    value = CodecComputed(1)
    value.gross = 99
    assert_comes_back(value)


def test_the_description_of_a_class_says_what_the_types_in_it_consist_of() -> None:
    described = described_fields(CodecLearns)
    for line in ("class CodecLine", "status: CodecStatus", "class CodecStatus", "class CodecBox", "content: T"):
        assert line in described


def test_a_class_is_learned_once() -> None:
    learn(CodecLearns)
    learn(CodecLearns)
    assert registered_name(CodecLine) == "CodecLine"
