"""Personal data: what a store with keys seals, opens and forgets."""

from __future__ import annotations

from typing import Annotated

import pytest

from eventstore.codec.personal import Personal, Subject
from eventstore.core.forgetting import SubjectForgotten
from eventstore.errors import ForgottenSubject, InvalidArgument
from eventstore.event import Event
from eventstore.store import EventStore
from eventstore.testing.contract.capabilities import Topic, needs


class ContractMemberNamed(Event):
    """An event that holds personal data."""

    event_type: str = "eventstore.contract.MemberNamed"
    member: Annotated[str, Subject]
    name: Annotated[str, Personal("(erased)")]


def named(member: str = "ann", name: str = "Ann") -> ContractMemberNamed:
    return ContractMemberNamed(member=member, name=name)


@needs("transactions")
class PersonalDataContract(Topic):
    @pytest.fixture(autouse=True)
    def skip_without_keys(self, request: pytest.FixtureRequest, store: EventStore) -> None:
        """Skip the tests of this topic if the store was made without keys, and so keeps no personal data."""
        if store.subject_keys is None and request.function.__name__ in vars(PersonalDataContract):
            pytest.skip("the store has no subject_keys")

    def test_personal_data_comes_back_equal(self, store: EventStore) -> None:
        event = named()
        store.append("Member-1", [event], 0)
        (found,) = store.read("Member-1")
        assert (found, found.sealed) == (event, ())

    def test_a_forgotten_subject_reads_as_placeholders_and_others_do_not(self, store: EventStore) -> None:
        store.append("Member-1", [named("ann"), other := named("bob", "Bob")], 0)
        store.forget("ann", reason="asked for")
        first, second = store.read("Member-1")
        assert isinstance(first, ContractMemberNamed)
        assert (first.name, first.sealed) == ("(erased)", ("name",))
        assert second == other

    def test_a_forgotten_subject_is_not_recorded_again(self, store: EventStore) -> None:
        store.forget("ann")
        with pytest.raises(ForgottenSubject):
            store.append("Member-1", [named()], 0)
        with pytest.raises(ForgottenSubject):
            store.append_many([("Other-1", [named("bob")], 0), ("Member-1", [named()], 0)])
        assert store.read("Member-1") == store.read("Other-1") == []
        assert store.append("Member-1", [named(name="(erased)")], 0) == 1

    def test_forgetting_stands_in_the_log_once(self, store: EventStore) -> None:
        version = store.forget("ann", reason="asked for")
        again = store.forget("ann", reason="again")
        assert (again, again.position, again.repeated) == (version, version.position, True)
        (event,) = store.read_all(event_types=SubjectForgotten)
        assert isinstance(event, SubjectForgotten)
        assert (event.subject, event.reason, event.position) == ("ann", "asked for", version.position)

    def test_a_transaction_that_is_rolled_back_forgets_nothing(self, store: EventStore) -> None:
        event = named()
        store.append("Member-1", [event], 0)
        with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
            transaction.forget("ann")
            raise ZeroDivisionError
        assert store.read("Member-1") == [event]
        assert store.append("Member-1", [named()], 1) == 2

    def test_a_savepoint_that_is_rolled_back_forgets_nothing(self, store: EventStore) -> None:
        event = named()
        store.append("Member-1", [event], 0)
        with store.transaction() as transaction:
            with pytest.raises(ZeroDivisionError), transaction.transaction() as inner:
                inner.forget("ann")
                raise ZeroDivisionError
            transaction.append("Member-1", [other := named()], 1)
        assert store.read("Member-1") == [event, other]

    @pytest.mark.parametrize("subject", ["", "a\0b", None, 1.5, True, "x" * 201])
    def test_invalid_subjects_are_refused(self, store: EventStore, subject: object) -> None:
        with pytest.raises(InvalidArgument):
            store.forget(subject)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] what is tested
        assert list(store.read_all()) == []
