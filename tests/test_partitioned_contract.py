"""The contract, the state machine and followers, on a store whose events are divided into partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import test_state_machine
import test_subscriptions
from fronts import Front
from other_schemas import PARTITIONS
from test_subscriptions import impatient  # noqa: F401 a fixture of what is run again here

from eventstore import EventStore, InMemoryEventStore, PostgresEventStore
from eventstore.postgres import migrate
from eventstore.privacy import InMemorySubjectKeys
from eventstore.testing import EventStoreContract
from eventstore.testing.state_machine import StoreMachine

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool


class TestPartitionedEventStore(EventStoreContract):
    @pytest.fixture
    def store(self, pool: ConnectionPool, partitioned: str) -> PostgresEventStore:
        return PostgresEventStore(pool, partitioned, subject_keys=InMemorySubjectKeys())


@pytest.fixture
def front(pool: ConnectionPool, partitioned: str) -> Front:
    return Front(PostgresEventStore(pool, partitioned))


class TestFollowingPartitions(test_subscriptions.TestFollowing):
    pass


class TestProjectionsOfPartitions(test_subscriptions.TestProjections):
    pass


class TestWorkersOnPartitions(test_subscriptions.TestWorkers):
    pass


def test_a_partitioned_store_is_like_the_model(pool: ConnectionPool, schema: str) -> None:
    with pool.connection() as admin:

        class Machine(StoreMachine):
            examples = 0

            def make_stores(self) -> dict[str, EventStore]:
                Machine.examples += 1
                self.schema = f"{schema}_{Machine.examples}"
                migrate(admin, self.schema, partitions=PARTITIONS)
                keys = InMemorySubjectKeys
                return {
                    "memory": InMemoryEventStore(subject_keys=keys()),
                    "partitions": PostgresEventStore(pool, self.schema, subject_keys=keys()),
                }

            def teardown(self) -> None:
                super().teardown()
                admin.execute("SET client_min_messages = warning")
                admin.execute(f'DROP SCHEMA "{self.schema}" CASCADE')

        test_state_machine.check(Machine, test_state_machine.EXAMPLES // 2)
