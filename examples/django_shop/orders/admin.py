from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from orders.models import OrderLine


@admin.register(OrderLine)
class OrderLineAdmin(admin.ModelAdmin):  # type: ignore[type-arg] it takes none at run time
    """To look at: what is changed here would be no event."""

    list_display = ("order_id", "items", "status")
    list_filter = ("status",)

    def has_add_permission(self, _: HttpRequest) -> bool:
        return False

    def has_change_permission(self, *_: object) -> bool:
        return False

    def has_delete_permission(self, *_: object) -> bool:
        return False
