"""What a store promises, as pytest classes: subclass one, and give it a fixture ``store`` with an empty store.

::

    class TestMyStore(EventStoreContract):
        @pytest.fixture
        def store(self):
            return MyStore()

A store that can't do all of it says so: ``capabilities = Capabilities(transactions=False)`` in the class's body. What
is about personal data is skipped unless the store has ``subject_keys``.
"""

from __future__ import annotations

from eventstore.testing.contract.appending import AppendingContract
from eventstore.testing.contract.bad_input import BadInputContract
from eventstore.testing.contract.batches import BatchesContract
from eventstore.testing.contract.capabilities import Capabilities
from eventstore.testing.contract.closing import ClosingContract
from eventstore.testing.contract.idempotency import IdempotencyContract
from eventstore.testing.contract.order import OrderContract
from eventstore.testing.contract.personal import PersonalDataContract
from eventstore.testing.contract.reading import ReadingContract
from eventstore.testing.contract.revisions import RevisionsContract
from eventstore.testing.contract.snapshots import SnapshotStoreContract
from eventstore.testing.contract.threads import ThreadsContract
from eventstore.testing.contract.transactions import TransactionsContract


class EventStoreContract(
    AppendingContract,
    ReadingContract,
    RevisionsContract,
    OrderContract,
    IdempotencyContract,
    ClosingContract,
    TransactionsContract,
    BatchesContract,
    BadInputContract,
    ThreadsContract,
    PersonalDataContract,
):
    """What every event store promises, by topic. Subclass it, and give it a fixture ``store`` with an empty store."""


__all__ = ["Capabilities", "EventStoreContract", "SnapshotStoreContract"]
