"""From async code: refused in Django's words, and what those advise works."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections
from django.db.transaction import atomic
from parcels.events import Parcel
from parcels.models import Note

from eventstore.contrib.django import event_store, repository

pytest_plugins = ["parcels.fixtures"]
pytestmark = pytest.mark.usefixtures("django_database")


def posted(parcel: Parcel, *, fails: bool = False) -> None:
    with atomic():
        Note.objects.create(text=str(parcel.id))
        parcel.post("Utrecht")
        repository(Parcel).save(parcel)
        if fails:
            raise ZeroDivisionError


def test_django_stores_refuse_async_code_before_anything_is_sent() -> None:
    parcel = Parcel(uuid4())
    parcel.post("Utrecht")

    async def view() -> None:
        with pytest.raises(SynchronousOnlyOperation, match="sync_to_async"):
            repository(Parcel).save(parcel)
        with pytest.raises(SynchronousOnlyOperation, match="sync_to_async"):
            list(event_store().read_all())

    asyncio.run(view())
    assert len(parcel.pending) == 1
    assert not repository(Parcel).exists(parcel.id)


def test_a_whole_block_in_one_function_works() -> None:
    kept, lost = Parcel(uuid4()), Parcel(uuid4())

    async def view() -> Parcel:
        await sync_to_async(posted)(kept)
        with pytest.raises(ZeroDivisionError):
            await sync_to_async(posted)(lost, fails=True)
        loaded = await sync_to_async(repository(Parcel).load)(kept.id)
        await sync_to_async(connections.close_all)()
        return loaded

    assert asyncio.run(view()).destination == "Utrecht"
    assert not repository(Parcel).exists(lost.id)
