"""Pages to look through streams, events and subscriptions. Nothing can be changed there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.utils.timezone import is_naive, make_aware

from eventstore.cli.reading import jsonable
from eventstore.contrib.django import conf
from eventstore.contrib.django.models import Event, Stream, Subscription
from eventstore.errors import EventStoreError
from eventstore.event import _event_classes

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _Paginator = Paginator[Any]
else:
    _ModelAdmin, _Paginator = admin.ModelAdmin, Paginator

_COUNTED = 10_000


class _Pages(_Paginator):
    """As many pages as a person may turn: to count a whole log takes long."""

    @cached_property
    def count(self) -> int:
        return cast("QuerySet[Any]", self.object_list)[:_COUNTED].count()


class _TypeFilter(admin.SimpleListFilter):
    """By the types that the project's classes have; any other may be asked for in the address."""

    title = "type"
    parameter_name = "event_type"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:  # noqa: ARG002
        names = {*_event_classes, self.value() or ""} - {""}
        return [(name, name) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        return queryset.filter(event_type=self.value()) if self.value() else queryset


class _TimeFilter(admin.ListFilter):
    """From one moment until before another, in the time zone of the pages."""

    title = "time"
    template = "eventstore/between.html"
    _names: ClassVar = {"from": "timestamp__gte", "until": "timestamp__lt"}

    def __init__(
        self,
        request: HttpRequest,
        params: dict[str, list[str]],
        model: type[Any],
        model_admin: admin.ModelAdmin[Any],
    ) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self._names:
            value = params.pop(name, [""])[-1]
            if value:
                self.used_parameters[name] = value

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self._names)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """What the form needs: what else is in the address."""
        for name, values in changelist.filter_params.items():
            if name not in self._names:
                yield from ({"name": name, "value": value} for value in values)
        if changelist.query:
            yield {"name": "q", "value": changelist.query}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        return queryset.filter(**{self._names[name]: _moment(str(text)) for name, text in self.used_parameters.items()})


def _moment(text: str) -> datetime:
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None:
        raise IncorrectLookupParameters(text)
    return make_aware(moment) if is_naive(moment) else moment


class _LookOnly(_ModelAdmin):
    actions = None
    paginator = _Pages
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they would count all there is
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(conf.setting("DATABASE"))

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 Django's
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False


@admin.register(Event)
class EventAdmin(_LookOnly):
    """The log, the newest event first."""

    list_display = ("position", "stream", "version", "event_type", "timestamp", "summary")
    list_filter = (_TypeFilter, _TimeFilter)
    sortable_by = ("position", "stream")  # what there are indexes for
    search_fields = ("stream_id__startswith",)
    search_help_text = "A stream, or how it begins"
    ordering = ("-position",)
    fields = ("stream", "version", "position", "event_type", "timestamp", "event_id", "says", "known")
    readonly_fields = fields

    @admin.display(description="stream", ordering="stream_id")
    def stream(self, event: Event) -> str:
        return _link_to_events(event.stream_id)

    @admin.display(description="data")
    def summary(self, event: Event) -> str:
        text = _text(lambda: event.contents)
        return text if len(text) <= 100 else f"{text[:99]}…"  # noqa: PLR2004 what fits in a row

    @admin.display(description="data")
    def says(self, event: Event) -> str:
        return format_html("<pre>{}</pre>", _text(lambda: event.contents, indent=2))

    @admin.display(description="metadata")
    def known(self, event: Event) -> str:
        return format_html("<pre>{}</pre>", _text(lambda: event.circumstances, indent=2))


@admin.register(Stream)
class StreamAdmin(_LookOnly):
    """The streams, the newest first; each leads to its events."""

    list_display = ("stream", "events", "first", "last")
    list_display_links = None
    sortable_by = ("stream",)
    search_fields = ("stream_id__startswith",)
    search_help_text = "A stream, or how it begins"
    ordering = ("-position",)
    fields = ("stream", "first")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        last = Event.objects.filter(stream_id=OuterRef("stream_id")).order_by("-version")
        return (
            super()
            .get_queryset(request)
            .filter(version=1)
            .annotate(events=Subquery(last.values("version")[:1]), last=Subquery(last.values("timestamp")[:1]))
        )

    @admin.display(description="stream", ordering="stream_id")
    def stream(self, first: Stream) -> str:
        return _link_to_events(first.stream_id)

    @admin.display(description="events")
    def events(self, first: Any) -> int:
        count: int = first.events
        return count

    @admin.display(description="first event")
    def first(self, first: Stream) -> datetime:
        return first.timestamp

    @admin.display(description="last event")
    def last(self, first: Any) -> datetime:
        moment: datetime = first.last
        return moment


@admin.register(Subscription)
class SubscriptionAdmin(_LookOnly):
    """How far each subscription has come."""

    list_display = ("name", "position", "highest", "seconds_behind", "seconds_unseen", "failed", "parked", "error")
    ordering = ("name",)


def _link_to_events(stream_id: str) -> str:
    address = reverse("admin:eventstore_event_changelist", query={"stream_id__exact": stream_id})
    return format_html('<a class="nowrap" href="{}">{}</a>', address, stream_id)


def _text(values: Callable[[], dict[str, Any]], indent: int | None = None) -> str:
    """Values for people. What can't be read says why: the page is for finding that out."""
    try:
        return json.dumps(jsonable(values(), readable=True), ensure_ascii=False, indent=indent)
    except EventStoreError as error:
        return f"This can't be read: {error}"
