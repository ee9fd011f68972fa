"""For the tests of a project. Each finds an empty event store, in Django's test cases and with pytest-django.

A TestCase (and pytest-django's ``db``) rolls the events back with everything else. A TransactionTestCase
(``transactional_db``) runs the command ``flush`` after each test, and this app's own ``flush`` empties the store.
"""

from __future__ import annotations

from django.test import TransactionTestCase

from eventstore.contrib.django.emptying import empty_store
from eventstore.contrib.django.workers import the_worker, workers

__all__ = ["EventStoreMixin", "empty_store", "run_subscriptions"]


def run_subscriptions(*names: str) -> None:
    """Run the project's subscriptions and projections to the end of the log: those with these names, or all.

    Raises:
        InvalidArgument: the project has no subscription of that name.
    """
    for worker in [the_worker(name) for name in names or workers]:
        worker.run_until_caught_up()


class EventStoreMixin(TransactionTestCase):
    """A mixin for TestCase and TransactionTestCase, with the method ``run_subscriptions``."""

    def run_subscriptions(self, *names: str) -> None:
        """Run the project's subscriptions and projections to the end of the log: those with these names, or all."""
        run_subscriptions(*names)
