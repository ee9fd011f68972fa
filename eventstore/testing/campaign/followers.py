"""A follower's process: a projection that counts events in a table, and a subscription that notes them in a history."""

from __future__ import annotations

import threading
from typing import Any

import psycopg

from eventstore import Event, PostgresEventStore, PostgresTransaction, Projection, Subscription
from eventstore.subscriptions import following
from eventstore.testing.campaign.history import History

MODEL = "campaign_counted"
"""The table of the read model: how often each position was counted, which is to be once."""
MOODS_PARK, ELSEWHERE = "moods-park-events", "effects-elsewhere"
"""The bugs that are planted here."""
_ATTEMPTS = 2
"""So few that an event would soon be parked if the server's moods were held against it."""
