from __future__ import annotations

from django.contrib import admin
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from orders import views

urlpatterns = [
    path("admin/", admin.site.urls),
    # Clients of these are programs, without cookies.
    path("orders", csrf_exempt(views.orders)),
    path("orders/<uuid:order_id>", csrf_exempt(views.show)),
    path("orders/<uuid:order_id>/items", csrf_exempt(views.add)),
    path("orders/<uuid:order_id>/shipment", csrf_exempt(views.ship)),
]
