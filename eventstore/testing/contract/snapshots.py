"""Snapshot stores: the newest one of each aggregate and class schema."""

from __future__ import annotations

import dataclasses
from uuid import UUID

import pytest

from eventstore.errors import InvalidArgument
from eventstore.store import Snapshot, SnapshotStore

SAMPLE = Snapshot("Order", "1", "schema", 100, UUID(int=7), b"\x80\x00\xff", b"checksum")


class SnapshotStoreContract:
    def test_a_new_aggregate_has_no_snapshot(self, store: SnapshotStore) -> None:
        assert store.load("Order", "1", "schema") is None

    def test_a_snapshot_comes_back_equal(self, store: SnapshotStore) -> None:
        store.save(SAMPLE)
        assert store.load("Order", "1", "schema") == SAMPLE

    @pytest.mark.parametrize("version", [50, 200, 2**63 - 1])
    def test_a_saved_snapshot_replaces_the_one_before(self, store: SnapshotStore, version: int) -> None:
        store.save(SAMPLE)
        other = dataclasses.replace(SAMPLE, version=version, event_id=UUID(int=8), state=b"", checksum=b"2")
        store.save(other)
        assert store.load("Order", "1", "schema") == other

    def test_each_class_schema_has_its_own(self, store: SnapshotStore) -> None:
        other = dataclasses.replace(SAMPLE, class_schema="next", version=50)
        store.save(SAMPLE)
        store.save(other)
        store.save(SAMPLE)
        assert store.load("Order", "1", "schema") == SAMPLE
        assert store.load("Order", "1", "next") == other
        assert store.load("Order", "1", "unknown") is None

    def test_those_of_the_two_class_schemas_that_were_saved_last_are_kept(self, store: SnapshotStore) -> None:
        for class_schema in ("first", "second", "third"):
            store.save(dataclasses.replace(SAMPLE, class_schema=class_schema))
            store.save(dataclasses.replace(SAMPLE, class_schema=class_schema, aggregate_id="2"))
        kept = [store.load("Order", "1", class_schema) is not None for class_schema in ("first", "second", "third")]
        assert kept == [False, True, True]

    def test_a_snapshot_is_named_by_its_type_and_id(self, store: SnapshotStore) -> None:
        others = [("Order", "2"), ("Invoice", "1"), ("Order-1", "1"), ("Order", "1-1")]
        for aggregate_type, aggregate_id in others:
            store.save(dataclasses.replace(SAMPLE, aggregate_type=aggregate_type, aggregate_id=aggregate_id))
        assert store.load("Order", "1", "schema") is None
        for aggregate_type, aggregate_id in others:
            found = store.load(aggregate_type, aggregate_id, "schema")
            assert found is not None
            assert (found.aggregate_type, found.aggregate_id) == (aggregate_type, aggregate_id)

    def test_a_deleted_snapshot_is_no_longer_found(self, store: SnapshotStore) -> None:
        store.save(SAMPLE)
        store.save(dataclasses.replace(SAMPLE, aggregate_id="2"))
        store.delete("Order", "1")
        store.delete("Order", "never")
        assert store.load("Order", "1", "schema") is None
        assert store.load("Order", "2", "schema") is not None

    @pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
    def test_snapshots_refuse_invalid_names(self, store: SnapshotStore, name: str) -> None:
        with pytest.raises(InvalidArgument):
            store.load(name, "1", "schema")
        with pytest.raises(InvalidArgument):
            store.load("Order", name, "schema")
        with pytest.raises(InvalidArgument):
            store.save(dataclasses.replace(SAMPLE, aggregate_id=name))
