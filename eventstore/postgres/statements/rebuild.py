"""Rebuilding a read model beside the one in use: sql/0007."""

from __future__ import annotations

from eventstore.core.subscription_requests import (
    AbandonRebuild,
    BeginRebuild,
    EmptiedByRebuild,
    EnterRebuild,
    FinishRebuild,
    KnownArchive,
    ListArchives,
    LockSubscription,
    WrittenElsewhere,
)
from eventstore.postgres.statements.statement import Parameters, Rows, each, names, nothing, statement, value


def _name_tables_position(request: BeginRebuild | FinishRebuild) -> Parameters:
    return request.name, names(request.tables), request.position


def _tables_or_none(rows: Rows) -> list[str] | None:
    ((tables,),) = rows
    return None if tables is None else list(tables)


def _position_categories(request: ListArchives) -> Parameters:
    categories = names(request.categories)
    return request.position, categories, categories


STATEMENTS = (
    statement(
        ListArchives,
        """
        SELECT archive, manifest, bool_or(
            (first.position > %b::bigint) IS NOT FALSE
            AND (%b::text[] IS NULL OR pg_catalog.strpos(archived.stream_id, '-'::text) > 0
                AND pg_catalog.split_part(archived.stream_id, '-'::text, 1) = ANY (%b::text[]))
        )
        FROM {schema}.archived_streams AS archived
        LEFT JOIN {schema}.events AS first ON first.stream_id = archived.stream_id AND first.version = archived.before
        GROUP BY archive, manifest ORDER BY min(archived_at)
        """,
        parameters=_position_categories,
        reply=each(KnownArchive),
    ),
    statement(
        BeginRebuild,
        "SELECT {schema}.begin_rebuild(%b::text, %b, %b::bigint)",
        parameters=_name_tables_position,
        reply=_tables_or_none,
    ),
    statement(
        EnterRebuild,
        """
        SELECT pg_catalog.set_config('search_path'::text, pg_catalog.concat_ws(', '::text,
            pg_catalog.quote_ident({schema}.shadow_of(%(name)b::text)),
            nullif(pg_catalog.current_setting('search_path'::text), ''::text)), true)
        """,
        reply=nothing,
    ),
    statement(WrittenElsewhere, "SELECT {schema}.written_elsewhere(%(name)b::text)", reply=value(list[str])),
    statement(
        EmptiedByRebuild,
        "SELECT {schema}.emptied_by_rebuild(%b::text, %b)",
        parameters=lambda request: (request.name, names(request.tables)),
        reply=value(list[str]),
    ),
    statement(
        LockSubscription,
        """
        SELECT partition FROM {schema}.subscriptions WHERE name = %(name)b ORDER BY partition FOR UPDATE
        """,
        reply=nothing,
    ),
    statement(
        FinishRebuild,
        "SELECT {schema}.finish_rebuild(%b::text, %b, %b::bigint)",
        parameters=_name_tables_position,
        reply=nothing,
    ),
    statement(
        AbandonRebuild,
        "SELECT {schema}.abandon_rebuild(%(name)b::text)",
        reply=nothing,
    ),
)
