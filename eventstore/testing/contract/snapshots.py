"""Snapshot stores: the last one of each aggregate."""

from __future__ import annotations

import dataclasses

import pytest

from eventstore.errors import InvalidArgument
from eventstore.store import Snapshot, SnapshotStore

SAMPLE = Snapshot("Order", "1", 100, "schema", b"\x80\x00\xff", b"checksum")


class SnapshotStoreContract:
    def test_there_is_none_at_first(self, store: SnapshotStore) -> None:
        assert store.load("Order", "1") is None

    def test_it_comes_back_equal(self, store: SnapshotStore) -> None:
        store.save(SAMPLE)
        assert store.load("Order", "1") == SAMPLE

    @pytest.mark.parametrize("version", [50, 200, 2**63 - 1])
    def test_the_last_one_replaces_the_one_before(self, store: SnapshotStore, version: int) -> None:
        store.save(SAMPLE)
        other = dataclasses.replace(SAMPLE, version=version, state=b"", class_schema="other", checksum=b"2")
        store.save(other)
        assert store.load("Order", "1") == other

    def test_type_and_id_name_it(self, store: SnapshotStore) -> None:
        others = [("Order", "2"), ("Invoice", "1"), ("Order-1", "1"), ("Order", "1-1")]
        for aggregate_type, aggregate_id in others:
            store.save(dataclasses.replace(SAMPLE, aggregate_type=aggregate_type, aggregate_id=aggregate_id))
        assert store.load("Order", "1") is None
        for aggregate_type, aggregate_id in others:
            found = store.load(aggregate_type, aggregate_id)
            assert found is not None
            assert (found.aggregate_type, found.aggregate_id) == (aggregate_type, aggregate_id)

    def test_deleting_forgets_one(self, store: SnapshotStore) -> None:
        store.save(SAMPLE)
        store.save(dataclasses.replace(SAMPLE, aggregate_id="2"))
        store.delete("Order", "1")
        store.delete("Order", "never")
        assert store.load("Order", "1") is None
        assert store.load("Order", "2") is not None

    @pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
    def test_names_that_can_not_be_are_refused(self, store: SnapshotStore, name: str) -> None:
        with pytest.raises(InvalidArgument):
            store.load(name, "1")
        with pytest.raises(InvalidArgument):
            store.load("Order", name)
        with pytest.raises(InvalidArgument):
            store.save(dataclasses.replace(SAMPLE, aggregate_id=name))
