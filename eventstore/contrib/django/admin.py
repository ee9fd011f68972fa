"""Pages to look through streams, events and subscriptions. Nothing can be changed there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import BigIntegerField, BinaryField, Case, F, Func, OuterRef, QuerySet, Subquery, When
from django.http import HttpRequest
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from django.utils.timezone import is_naive, make_aware

from eventstore.codec.showing import PAGE, SUMMARY, Limits, cleaned, json_of
from eventstore.contrib.django import conf
from eventstore.contrib.django.models import Event, ParkedEvent, Stream, Subscription
from eventstore.core.records import decoded_data
from eventstore.errors import EventStoreError
from eventstore.event_types import stored_types

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _Paginator = Paginator[Any]
else:
    _ModelAdmin, _Paginator = admin.ModelAdmin, Paginator

_COUNTED = 10_000
_LOOKED_AT = 1_000
"""How many of the newest events say which types there are."""
_PARKED_SHOWN = 100
_SUMMARISED = 65_536
"""Bytes of the largest data that a list shows anything of but the size."""


class _Pages(_Paginator):
    """As many pages as a person may turn: to count a whole log takes long."""

    @cached_property
    def count(self) -> int:
        return cast("QuerySet[Any]", self.object_list)[:_COUNTED].count()


_MOST_COMMON = """
    SELECT unnest(most_common_vals::text::text[]) FROM pg_stats
    WHERE schemaname = %s AND tablename = 'events' AND attname = 'event_type'
"""


class _TypeFilter(admin.SimpleListFilter):
    """By a stored type: those of the newest events, and the most common of the log as the planner knows them.

    To look for all of them would read the whole log. Any other may be asked for in the address.
    """

    title = "type"
    parameter_name = "event_type"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:  # noqa: ARG002
        using = conf.setting("DATABASE")
        newest = Event.objects.using(using).order_by("-position").values_list("event_type", flat=True)[:_LOOKED_AT]
        names = {*newest, self.value() or ""} - {""}
        with connections[using].cursor() as cursor:
            cursor.execute(_MOST_COMMON, [conf.setting("SCHEMA")])
            names.update(name for (name,) in cursor.fetchall())
        return [(name, cleaned(name)) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        wanted = self.value()
        return queryset.filter(event_type__in=stored_types([wanted])) if wanted else queryset


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

    class Media:
        css: ClassVar = {"all": ["eventstore/events.css"]}

    list_display = ("position", "stream", "version", "kind", "timestamp", "summary")
    list_filter = (_TypeFilter, _TimeFilter)
    sortable_by = ("position", "stream")  # what there are indexes for
    search_fields = ("stream_id__startswith",)
    search_help_text = "A stream, or how it begins"
    ordering = ("-position",)
    fields = ("stream", "version", "position", "kind", "revision", "timestamp", "event_id", "says", "known")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The lists fetch and decode the data of small events only: a page of large ones would be gigabytes."""
        size: Func = Func(F("data"), function="octet_length", output_field=BigIntegerField())
        small = Case(When(size__lte=_SUMMARISED, then=F("data")), output_field=BinaryField())
        return super().get_queryset(request).defer("data", "metadata").annotate(size=size, small=small)

    @admin.display(description="stream", ordering="stream_id")
    def stream(self, event: Event) -> str:
        return _link_to_events(event.stream_id)

    @admin.display(description="type")
    def kind(self, event: Event) -> str:
        return cleaned(event.event_type)

    @admin.display(description="data")
    def summary(self, event: Any) -> str:
        if event.small is None:
            return f"{event.size:,} bytes"
        text = _text(lambda: decoded_data(event.event_type, event.revision, bytes(event.small)), SUMMARY)
        return text if len(text) <= 100 else f"{text[:99]}…"  # noqa: PLR2004 what fits in a row

    @admin.display(description="data")
    def says(self, event: Event) -> str:
        return format_html("<pre>{}</pre>", _text(lambda: event.contents, PAGE, indent=2))

    @admin.display(description="metadata")
    def known(self, event: Event) -> str:
        return format_html("<pre>{}</pre>", _text(lambda: event.circumstances, PAGE, indent=2))


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
    """Where each subscription stands, and what it has parked."""

    list_display = ("name", "state", "position", "behind", "parked_count", "problem")
    ordering = ("name",)
    fields = ("name", "state", "position", "behind", "partitions", "rebuilt_to", "problem", "parked_events")
    readonly_fields = fields

    @admin.display(description="state")
    def state(self, subscription: Subscription) -> str:
        return subscription.status.state.value

    @admin.display(description="behind")
    def behind(self, subscription: Subscription) -> str:
        status = subscription.status
        if not status.positions_behind:
            return "nothing"
        return f"{status.positions_behind:,} positions, {timedelta(seconds=round(status.seconds_behind))}"

    @admin.display(description="parked events", ordering="parked")
    def parked_count(self, subscription: Subscription) -> str:
        if not subscription.parked:
            return "0"
        address = reverse("admin:eventstore_subscription_change", args=[quote(subscription.name)])
        return format_html('<a href="{}">{}</a>', address, f"{subscription.parked:,}")

    @admin.display(description="error")
    def problem(self, subscription: Subscription) -> str:
        if subscription.error is None:
            return ""
        link = _link_to_event(subscription.error_position or 0)
        return format_html("At position {}: {}", link, cleaned(subscription.error))

    @admin.display(description="parked events")
    def parked_events(self, subscription: Subscription) -> str:
        using = conf.setting("DATABASE")
        parked = ParkedEvent.objects.using(using).filter(name=subscription.name).order_by("position")[:_PARKED_SHOWN]
        types = dict(
            Event.objects.using(using)
            .filter(position__in=[each.position for each in parked])
            .values_list("position", "event_type")
        )
        rows = [
            (
                _link_to_event(each.position),
                cleaned(types.get(each.position, "")),
                each.parked_at.isoformat(" ", "seconds"),
                each.attempts,
                cleaned(each.error),
            )
            for each in parked
        ]
        if not rows:
            return "none"
        head = mark_safe("<tr><th>position<th>type<th>parked at<th>attempts<th>error</tr>")
        body = format_html_join("", "<tr><td>{}<td>{}<td>{}<td>{}<td>{}</tr>", rows)
        more = subscription.parked - len(rows)
        return format_html("<table>{}{}</table>{}", head, body, f"and {more:,} more" if more > 0 else "")


def _link_to_event(position: int) -> str:
    return format_html('<a href="{}">{}</a>', reverse("admin:eventstore_event_change", args=[position]), position)


def _link_to_events(stream_id: str) -> str:
    address = reverse("admin:eventstore_event_changelist", query={"stream_id__exact": stream_id})
    return format_html('<a href="{}">{}</a>', address, cleaned(stream_id))


def _text(values: Callable[[], dict[str, Any]], limits: Limits, indent: int | None = None) -> str:
    """Values for people. What can't be read says why: the page is for finding that out."""
    try:
        return json_of(values(), limits, indent=indent)
    except EventStoreError as error:
        return f"This can't be read: {cleaned(str(error))}"
